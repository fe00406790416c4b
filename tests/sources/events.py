"""A small clean source of events: users who go round a shop, each in one of two directions."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

SHOP = ("apple", "bread", "cheese", "dates", "eggs", "figs", "grapes", "honey")
START, HOUR = 1_700_000_000, 3600


def walks(num: int = 60, most: int = 9, seed: int = 0) -> list[list[str]]:
    """What each user took: mostly the next thing on the way, seldom any other."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(num):
        step, at = draw.choice([1, -1]), draw.integers(len(SHOP))
        own = []
        for _ in range(draw.integers(3, most)):
            own.append(SHOP[at])
            at = (at + step) % len(SHOP) if draw.random() < 0.9 else draw.integers(len(SHOP))
        found.append(own)
    return found


def rows(num: int = 60) -> list[tuple[str, str, int]]:
    """Users, items and stamps, by time: users come one after the other, and overlap."""
    found = []
    for user, own in enumerate(walks(num)):
        found += [(f"u{user}", what, START + HOUR * (2 * user + 5 * place))
                  for place, what in enumerate(own)]  # fmt: skip
    return sorted(found, key=lambda row: row[2])


def write(folder: Path, num: int = 60) -> Path:
    """A table of a row for each event."""
    path = folder / "shop.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        writer.writerows(rows(num))
    return path
