"""The rows of series as they come, by columns: a list of cells for each column that is asked for.

A cell is looked at where a column is whole: what its commas mean, and which form its dates have,
all of its cells say together.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from morphogen.core.codec import Report
from morphogen.sources import Coded, Record, RecordBatch, Wants, batches

MISSING = {"", "?", "na", "n/a", "nan", "null", "none", "#n/a", "<na>", "-"}


@dataclass
class Rows:
    """Rows of one series, in the order in which they come."""

    columns: list[list[Any]]  # the cells of each
    begins: list[int] = field(default_factory=list)  # of each stretch that was added
    named: list[Callable[[int], str]] = field(default_factory=list)  # what its rows are called

    def __len__(self) -> int:
        return len(self.columns[0])

    def add(self, columns: Sequence[Sequence[Any]], named: Callable[[int], str]) -> None:
        """Take in what comes next."""
        self.begins.append(len(self))
        self.named.append(named)
        for own, cells in zip(self.columns, columns, strict=True):
            own += cells

    def name(self, row: int) -> str:
        """What a row is called in a report."""
        stretch = bisect.bisect_right(self.begins, row) - 1
        return self.named[stretch](row - self.begins[stretch])


def rows_of(
    source: Any, wants: Wants, report: Report, columns: Sequence[str], series: str | None
) -> dict[str, Rows]:
    """The cells of these columns, by what the column `series` says, else by file."""
    found: dict[str, Rows] = {}
    for some in batches(source, wants, report):
        stretches = (
            _by_columns(some, columns, series)
            if isinstance(some, RecordBatch)
            else _one_by_one(some, columns, series)
        )
        for whose, cells, named in stretches:
            found.setdefault(whose, Rows([[] for _ in columns])).add(cells, named)
    return found


Stretch = tuple[str, Sequence[Sequence[Any]], Callable[[int], str]]  # series, cells, names


def _by_columns(
    batch: RecordBatch, columns: Sequence[str], series: str | None
) -> Iterator[Stretch]:
    cells = [list(batch.column(name).each()) for name in columns]
    if series is None:
        whose = Coded.same(_file(batch.stem), len(batch))
    else:
        whose = Coded.of([str(cell) for cell in batch.column(series).each()])
    order = np.argsort(whose.codes, kind="stable")
    end = 0
    for name, num in zip(whose.values, whose.counts().tolist(), strict=True):
        index = order[end : end + num]
        end += num
        own = cells
        if num < len(batch):
            own = [[column[i] for i in index.tolist()] for column in cells]
        yield name, own, partial(_numbered, batch.stem, batch.numbers[index])


def _one_by_one(
    records: Sequence[Record], columns: Sequence[str], series: str | None
) -> Iterator[Stretch]:
    for record in records:
        row = record.value()
        whose = str(row.get(series)) if series is not None else _file(record.name)
        cells = [[row.get(name)] for name in columns]
        yield whose, cells, [record.name].__getitem__


def _numbered(stem: str, numbers: np.ndarray, row: int) -> str:
    return f"{stem}{numbers[row]}"


def _file(name: str) -> str:
    """The file of a row that is called so."""
    return name.partition("#")[0]


# -- cells -----------------------------------------------------------------------------------------


def is_missing(cell: Any) -> bool:
    """True for None, NaN, and what stands for nothing."""
    if cell is None:
        return True
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING
    return isinstance(cell, float) and np.isnan(cell)


def missing_in(cells: Sequence[Any]) -> np.ndarray:
    """Which cells of a column are missing (N,): each different one is looked at once."""
    try:
        missing = {cell for cell in set(cells) if is_missing(cell)}
    except TypeError:  # lists among them
        return np.fromiter(map(is_missing, cells), bool, len(cells))
    if not missing:
        return np.zeros(len(cells), bool)
    return np.fromiter((cell in missing for cell in cells), bool, len(cells))
