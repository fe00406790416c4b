"""What kind each column is: found from the training rows, however many there are."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from morphogen.modalities.table.cells import Cell, comma_of, date_of
from morphogen.modalities.table.columns import (
    OTHER,
    Category,
    Column,
    number_column,
    number_in,
)

MOST_COUNTED = 20_000  # distinct values of a column that are counted
MOST_KEPT = 1 << 16  # numbers of a column that quantiles are taken of
MOST_NAMES = 128  # categories of a column
FEW_NUMBERS = 10  # a number of so many values at most is a category,
ROWS_EACH = 5  # if there are so many rows for each
REPEATED = 5  # rows for each of many categories, from which the frequent ones are learned
WORDY = 4  # words in a cell on average, from which a column is of free texts
IDENTIFIER = re.compile(r"(.*[_ ]|)(id|idx|index|key|uuid|guid|no|nr|rowid|row|number)", re.I)


@dataclass
class Seen:
    """The cells of one column, as they come."""

    name: str
    num_rows: int = 0
    num_missing: int = 0
    num_numbers: int = 0  # bools are none
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Cell] = field(default_factory=dict)  # a cell of each that is counted
    is_counted: bool = True  # False: there are too many to count
    numbers: list[float] = field(default_factory=list)
    stride: int = 1  # of the numbers, every so many is kept
    low: float = float("inf")
    high: float = float("-inf")

    def see(self, cell: Cell) -> None:
        """Add a cell."""
        self.num_rows += 1
        if cell is None:
            self.num_missing += 1
            return
        if isinstance(cell, (int, float)) and not isinstance(cell, bool):
            self.number(float(cell))
            key = repr(float(cell))
        else:
            key = f"{type(cell).__name__} {cell}"
        if key in self.counts or len(self.counts) < MOST_COUNTED:
            self.counts[key] += 1
            self.examples.setdefault(key, cell)
        else:
            self.is_counted = False

    def number(self, value: float) -> None:
        """Add a number."""
        if self.num_numbers % self.stride == 0:
            self.numbers.append(value)
            if len(self.numbers) > MOST_KEPT:
                self.numbers = self.numbers[::2]
                self.stride *= 2
        self.num_numbers += 1
        self.low, self.high = min(self.low, value), max(self.high, value)

    @property
    def num_filled(self) -> int:
        """Cells that are not missing."""
        return self.num_rows - self.num_missing


def kind_of(seen: Seen) -> Column:
    """The column that is made of what was seen."""
    filled, distinct = seen.num_filled, len(seen.counts)
    has_missing = seen.num_missing > 0
    if not filled:
        return Column(seen.name, "it is empty", is_constant=True)
    if distinct == 1 and not has_missing:
        only = next(iter(seen.examples.values()))
        return Column(seen.name, f"it is {only!r} in every row", is_constant=True, constant=only)
    if seen.num_numbers == filled:
        return _number(seen, has_missing)
    texts = [cell for cell in seen.examples.values() if isinstance(cell, str)]
    if len(texts) == distinct and distinct > 2:  # all are texts
        form, comma = date_of(texts), comma_of(texts)
        if form or comma:
            return _number_in_texts(seen, texts, form, comma, has_missing)
    return _category(seen, texts, has_missing)


def _number(seen: Seen, has_missing: bool) -> Column:
    filled, distinct = seen.num_filled, len(seen.counts)
    if distinct <= FEW_NUMBERS and (distinct <= 2 or filled >= ROWS_EACH * distinct):
        values = sorted(seen.examples.values(), key=lambda cell: float(cell or 0))
        return Category(seen.name, values=values, has_missing=has_missing)
    whole = all(isinstance(cell, int) for cell in seen.examples.values())
    consecutive = seen.high - seen.low + 1 == filled == distinct
    named = IDENTIFIER.fullmatch(seen.name.strip()) is not None
    if whole and distinct == filled > 20 and not has_missing and (named or consecutive):
        return Column(seen.name, "every row has a number of its own: an identifier")
    counts = None
    if seen.is_counted:
        counts = Counter({float(seen.examples[key] or 0): n for key, n in seen.counts.items()})
    return number_column(
        seen.name, seen.numbers, counts, seen.low, seen.high, has_missing=has_missing
    )


def _number_in_texts(
    seen: Seen, texts: list[str], form: str | None, comma: str | None, has_missing: bool
) -> Column:
    """Dates, or numbers written with commas."""
    counts: Counter[float] = Counter()
    for key, cell in seen.examples.items():
        if (number := number_in(str(cell), form, comma)) is not None:
            counts[number] += seen.counts[key]
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
        values = [seen.examples[key] for key in _ordered(seen)]
        return Category(seen.name, values=values, has_missing=has_missing)
    if distinct * REPEATED <= filled and seen.is_counted:
        frequent = [key for key, _ in seen.counts.most_common(MOST_NAMES - 1)]
        share = 1 - sum(seen.counts[key] for key in frequent) / filled
        why = f"{distinct:,} values, {share:.0%} of the cells in rare ones that become {OTHER!r}"
        values = [*(seen.examples[key] for key in frequent), OTHER]
        return Category(seen.name, why, values=values, has_missing=has_missing)
    what = "of free texts" if words >= WORDY else "different in most rows: a name or an identifier"
    return Column(seen.name, f"it is {what}")


def _ordered(seen: Seen) -> list[str]:
    """The keys of the values: truth values and numbers by value, texts by spelling."""

    def rank(key: str) -> tuple[bool, float, str]:
        cell = seen.examples[key]
        return isinstance(cell, str), 0.0 if isinstance(cell, str) else float(cell or 0), key

    return sorted(seen.examples, key=rank)
