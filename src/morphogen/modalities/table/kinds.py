"""What kind each column is: found from the training rows, however many there are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from morphogen.core.commas import comma_of
from morphogen.modalities.table.cells import Cell, date_of, marked
from morphogen.modalities.table.columns import (
    OTHER,
    Category,
    Column,
    number_in,
)
from morphogen.modalities.table.numbers import number_column
from morphogen.sources import Coded

MOST_COUNTED = 20_000  # distinct values of a column that are counted
MOST_KEPT = 1 << 16  # numbers of a column that quantiles are taken of
MOST_NAMES = 128  # categories of a column
FEW_NUMBERS = 10  # a number of so many values at most is a category,
ROWS_EACH = 5  # if there are so many rows for each
REPEATED = 5  # rows for each of many categories, from which the frequent ones are learned
WORDY = 4  # words in a cell on average, from which a column is of free texts
STAND_INS = (-99.0, -999.0, -9999.0, -99999.0)  # for missing numbers that are never negative,
FEWEST_STAND_INS = 3  # where it comes so often
IDENTIFIER = re.compile(r"(.*[_ ]|)(id|idx|index|key|uuid|guid|no|nr|rowid|row|number)", re.I)


@dataclass
class Seen:
    """The cells of one column, as they come, many at once."""

    name: str
    num_rows: int = 0
    num_missing: int = 0
    num_numbers: int = 0  # bools are none
    counts: Counter[Any] = field(default_factory=Counter)  # of values, truth values `marked`
    is_counted: bool = True  # False: there are too many to count
    numbers: list[float] = field(default_factory=list)
    stride: int = 1  # of the numbers, every so many is kept
    low: float = float("inf")
    high: float = float("-inf")

    def see(self, cells: Sequence[Cell] | Coded) -> None:
        """Add cells."""
        if isinstance(cells, Coded):
            self._see_coded(cells)
            return
        types = set(map(type, cells))
        filled = [cell for cell in cells if cell is not None] if type(None) in types else cells
        self.num_rows += len(cells)
        self.num_missing += len(cells) - len(filled)
        plain = types <= {int, float, type(None)}
        numbers = filled if plain else [each for each in filled if type(each) in (int, float)]
        if numbers:
            self._see_numbers(np.array(numbers, np.float64))
        self._count(Counter(map(marked, filled) if bool in types else filled).items())

    def _see_coded(self, column: Coded) -> None:
        values, codes = column
        counts = column.counts().tolist()
        is_number = np.array([type(value) in (int, float) for value in values])
        if is_number.any():
            numbers = np.array([v if own else 0 for v, own in zip(values, is_number, strict=True)])
            self._see_numbers(numbers.astype(np.float64)[codes[is_number[codes]]])
        self.num_rows += len(codes)
        filled = [(marked(v), n) for v, n in zip(values, counts, strict=True) if v is not None]
        self.num_missing += len(codes) - sum(n for _, n in filled)
        self._count(filled)

    def _count(self, counted: Iterable[tuple[Any, int]]) -> None:
        for value, count in counted:
            if value in self.counts or len(self.counts) < MOST_COUNTED:
                self.counts[value] += count
            else:
                self.is_counted = False

    def _see_numbers(self, values: np.ndarray) -> None:
        self.numbers += values[-self.num_numbers % self.stride :: self.stride].tolist()
        while len(self.numbers) > MOST_KEPT:
            self.numbers = self.numbers[::2]
            self.stride *= 2
        self.num_numbers += len(values)
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))

    @property
    def cells(self) -> list[Cell]:
        """The different values that were counted."""
        return [value[1] if isinstance(value, tuple) else value for value in self.counts]

    @property
    def num_filled(self) -> int:
        """Cells that are not missing."""
        return self.num_rows - self.num_missing

    def without(self, value: float) -> Seen:
        """The same, with cells of one number missing."""
        numbers = [number for number in self.numbers if number != value]
        often = self.counts[value]
        return replace(
            self, num_missing=self.num_missing + often, num_numbers=self.num_numbers - often,
            counts=Counter({each: n for each, n in self.counts.items() if each != value}),
            numbers=numbers, low=min(numbers), high=max(numbers),
        )  # fmt: skip


def kind_of(seen: Seen) -> Column:
    """The column that is made of what was seen."""
    filled, distinct = seen.num_filled, len(seen.counts)
    has_missing = seen.num_missing > 0
    if not filled:
        return Column(seen.name, "it is empty", is_constant=True)
    if distinct == 1 and not has_missing:
        (only,) = seen.cells
        return Column(seen.name, f"it is {only!r} in every row", is_constant=True, constant=only)
    if seen.num_numbers == filled:
        return _number(seen, has_missing)
    texts = [cell for cell in seen.cells if isinstance(cell, str)]
    if len(texts) == distinct and distinct > 2:  # all are texts
        form, comma = date_of(texts), comma_of(texts)
        if form or comma:
            return _number_in_texts(seen, texts, form, comma, has_missing)
    return _category(seen, texts, has_missing)


def _number(seen: Seen, has_missing: bool) -> Column:
    absent = _stand_in(seen)
    if absent is not None:
        seen, has_missing = seen.without(absent), True
    filled, distinct = seen.num_filled, len(seen.counts)
    if distinct <= FEW_NUMBERS and (distinct <= 2 or filled >= ROWS_EACH * distinct):
        values = sorted(seen.cells, key=lambda cell: float(cell or 0))
        return Category(seen.name, values=values, has_missing=has_missing)
    whole = all(isinstance(cell, int) for cell in seen.cells)
    consecutive = seen.high - seen.low + 1 == filled == distinct
    named = IDENTIFIER.fullmatch(seen.name.strip()) is not None
    if whole and distinct == filled > 20 and not has_missing and (named or consecutive):
        return Column(seen.name, "every row has a number of its own: an identifier")
    counts = None
    if seen.is_counted:
        counts = Counter({float(value): n for value, n in seen.counts.items()})
    return number_column(
        seen.name, seen.numbers, counts, seen.low, seen.high, absent=absent, has_missing=has_missing
    )


def _stand_in(seen: Seen) -> float | None:
    """The number that is written for a missing one: far below all others, and often."""
    if seen.low not in STAND_INS or not seen.is_counted or len(seen.counts) <= FEW_NUMBERS:
        return None
    often = seen.counts[seen.low] >= FEWEST_STAND_INS
    others = min(float(value) for value in seen.counts if value != seen.low)
    return seen.low if often and others >= 0 else None


def _number_in_texts(
    seen: Seen, texts: list[str], form: str | None, comma: str | None, has_missing: bool
) -> Column:
    """Dates, or numbers written with commas."""
    counts: Counter[float] = Counter()
    for text, count in seen.counts.items():
        if (number := number_in(text, form, comma)) is not None:
            counts[number] += count
    every = sorted(counts.elements())
    return number_column(
        seen.name, every, counts, every[0], every[-1],
        date=form, comma=comma, has_missing=has_missing,
    )  # fmt: skip


def _category(seen: Seen, texts: list[str], has_missing: bool) -> Column:
    filled, distinct = seen.num_filled, len(seen.counts)
    words = sum(len(text.split()) for text in texts) / max(len(texts), 1)
    few = distinct <= MOST_NAMES and seen.is_counted
    if few and (distinct * 2 <= filled or distinct <= FEW_NUMBERS):
        return Category(seen.name, values=_ordered(seen.cells), has_missing=has_missing)
    if distinct * REPEATED <= filled and seen.is_counted:
        counted = zip(seen.cells, seen.counts.values(), strict=True)  # True and 1 are two cells
        frequent = sorted(counted, key=lambda pair: -pair[1])[: MOST_NAMES - 1]
        share = 1 - sum(count for _, count in frequent) / filled
        why = f"{distinct:,} values, {share:.0%} of the cells in rare ones that become {OTHER!r}"
        values = [*(cell for cell, _ in frequent), OTHER]
        return Category(seen.name, why, values=values, has_missing=has_missing)
    what = "of free texts" if words >= WORDY else "different in most rows: a name or an identifier"
    return Column(seen.name, f"it is {what}")


def _ordered(cells: Sequence[Cell]) -> list[Cell]:
    """Truth values and numbers by value, then texts by spelling."""

    def rank(cell: Cell) -> tuple[bool, float, str]:
        return isinstance(cell, str), 0.0 if isinstance(cell, str) else float(cell or 0), str(cell)

    return sorted(cells, key=rank)
