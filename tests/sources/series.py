"""A small clean source of series: two columns by the hour, with a day and noise in them."""

from __future__ import annotations

import csv
import datetime
from pathlib import Path

import numpy as np

START = datetime.datetime(2024, 1, 1)


def write(folder: Path, num: int = 150) -> Path:
    """A table in wide form, of `num` hours."""
    draw = np.random.default_rng(0)
    path = folder / "plant.csv"
    hours = np.arange(num)
    day = np.sin(2 * np.pi * hours / 24)
    load = 50 + 20 * day + 2 * draw.standard_normal(num)
    heat = 20 + 5 * np.roll(day, 3) + 0.5 * draw.standard_normal(num)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "load", "heat"])
        for hour in range(num):
            stamp = START + datetime.timedelta(hours=hour)
            writer.writerow([stamp.isoformat(" "), round(load[hour], 3), round(heat[hour], 3)])
    return path
