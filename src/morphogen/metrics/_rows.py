"""What metrics of tables share: the sets that they ask for, and columns as numbers.

Legend: N rows.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from morphogen.core.metric import Items

FEW = 10  # a column of so many different numbers at most is a category
Row = Mapping[str, Any]


def of_numbers(numbers: Sequence[int]) -> dict[str, Any]:
    """Small numbers as a row: the numbers, and what kinds they are of."""
    row: dict[str, Any] = {f"number {i}": 3.5 * number for i, number in enumerate(numbers[:3])}
    return row | {"kind": "abc"[sum(numbers) % 3], "is even": numbers[0] % 2 == 0}


class Rows(Items):
    """Items whose values are rows of cells by the names of their columns."""

    of: ClassVar = "row"
    example = staticmethod(of_numbers)


class Column:
    """A column of several tables: as numbers, or as the places of its categories."""

    def __init__(self, tables: Sequence[Sequence[Row]], name: str) -> None:
        cells = [[row.get(name) for row in table] for table in tables]
        found = [_numbers(own) for own in cells]
        known = [each for each in found if each is not None]
        whole = len(known) == len(found)
        several = np.concatenate(known) if whole else np.array([])
        self.is_number = whole and len(np.unique(several[~np.isnan(several)])) > FEW
        self.values: list[np.ndarray]
        if self.is_number:
            self.values, self.size = known, 0
            return
        place: dict[Any, int] = {}
        self.values = [
            np.array([place.setdefault(_key(cell), len(place)) for cell in own], np.int64)
            for own in cells
        ]
        self.size = len(place)


def columns(*tables: Sequence[Row]) -> dict[str, Column]:
    """The columns that all tables have, by name."""
    shared = [name for name in tables[0][0] if all(name in table[0] for table in tables[1:])]
    return {name: Column(tables, name) for name in shared}


def _key(cell: Any) -> Any:
    """True and 1 are two things."""
    return (type(cell).__name__, cell) if isinstance(cell, bool) else cell


def _numbers(cells: Sequence[Any]) -> np.ndarray | None:
    """Numbers and dates as numbers (N,), NaN for a missing one; None where any is neither."""
    found = np.empty(len(cells))
    for i, cell in enumerate(cells):
        if isinstance(cell, str):
            try:
                since = datetime.datetime.fromisoformat(cell).replace(tzinfo=None)
            except ValueError:
                return None
            found[i] = (since - datetime.datetime(1970, 1, 1)).total_seconds()
        elif isinstance(cell, bool):
            return None
        else:
            found[i] = np.nan if cell is None else float(cell)
    return None if np.isnan(found).all() else found
