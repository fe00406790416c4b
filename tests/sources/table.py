"""A small clean source of rows: numbers, categories, dates, truth values and missing cells."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np


def write(folder: Path) -> Path:
    """A table of 40 rows."""
    draw = np.random.default_rng(0)
    path = folder / "visits.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket", "country", "age", "price paid", "day", "member", "type"])
        for i in range(40):
            writer.writerow([
                f"T{i:04d}",
                "Malta",
                "" if i % 9 == 0 else int(draw.integers(4, 90)),
                round(float(draw.lognormal(3, 1)), 2),
                f"2024-{1 + i % 12:02d}-{1 + i % 28:02d}",
                ["yes", "no", "NA"][int(draw.integers(3))],
                ["adult", "child", "group"][int(draw.integers(3))],
            ])  # fmt: skip
    return path
