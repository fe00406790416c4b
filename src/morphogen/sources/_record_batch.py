"""Many items by columns: rows of a table that are read, hashed and encoded together.

A column keeps each of its different values once, and which of them each item has (dictionary
encoding, as Apache Arrow's record batches have it). What is done to values, parsing or hashing or
looking up a token, is done once for each, and an item is made where somebody asks for it.

A `RecordBatches` is an iterator of items to all who know nothing of this; who does goes through
its `batches()`, of which some may be plain lists: rows that columns cannot hold.

Legend: N items, K different values.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from morphogen.core.codec import Item, Report

BATCH = 1 << 10  # items that are read together: what a processor has at hand at once
VALUE_BYTES = 80  # of a value that is kept, about


class Coded(NamedTuple):
    """A column: its different values (K,), and which of them each item has (N,)."""

    values: Sequence[Any]
    codes: np.ndarray

    @classmethod
    def of(cls, values: Sequence[Hashable]) -> Coded:
        """Values (N,), the different ones in the order in which they come. Of one type each."""
        distinct = list(dict.fromkeys(values))
        place = dict(zip(distinct, itertools.count()))
        return cls(distinct, np.fromiter(map(place.__getitem__, values), np.int32, len(values)))

    @classmethod
    def of_any(cls, values: Sequence[Any]) -> Coded:
        """The same of values of any types, of which those of other types are others: 1, 1.0, True;
        0.0 and -0.0 are two. Raises `TypeError` for one that cannot be told by its hash: a list."""
        if set(map(type, values)) <= {str}:
            return cls.of(values)
        coded = cls.of([(type(value), value or str(value)) for value in values])
        first = np.zeros(len(coded.values), np.int64)
        first[coded.codes[::-1]] = np.arange(len(values))[::-1]
        return cls([values[place] for place in first.tolist()], coded.codes)

    @classmethod
    def same(cls, value: Any, num: int) -> Coded:
        """One value for all."""
        return cls([value], np.zeros(num, np.int32))

    def map(self, function: Callable[[Any], Any]) -> Coded:
        """The function of every value."""
        return Coded(list(map(function, self.values)), self.codes)

    def take(self, index: np.ndarray) -> Coded:
        """Those of the items at `index`, in the order in which they come."""
        codes = self.codes[index]
        first = np.full(len(self.values), len(codes))
        first[codes[::-1]] = np.arange(len(codes))[::-1]  # of one place, the last that is put stays
        order = np.argsort(first, kind="stable")[: np.count_nonzero(first < len(codes))]
        rank = np.empty(len(self.values), np.int32)
        rank[order] = np.arange(len(order))
        return Coded([self.values[place] for place in order.tolist()], rank[codes])

    def counts(self) -> np.ndarray:
        """How many items have each value (K,)."""
        return np.bincount(self.codes, minlength=len(self.values))

    def each(self) -> Iterator[Any]:
        """The value of each item."""
        return map(self.values.__getitem__, self.codes.tolist())


class Later(Mapping[str, Coded]):
    """Columns that are made when they are asked for, as tags seldom are."""

    def __init__(self, names: Iterable[str], make: Callable[[str], Coded]) -> None:
        self.names, self.make = list(names), make

    def __getitem__(self, name: str) -> Coded:
        if name not in self.names:
            raise KeyError(name)
        return self.make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass
class RecordBatch(Sequence[Item]):
    """Items by columns. What is None in `cond` and `tags` is not said of that item; what is `noted`
    was found as it was read, for its codec alone, and is no part of it."""

    stem: str  # what all are called by, before their numbers
    numbers: np.ndarray  # (N,)
    cells: Mapping[str, Coded]  # of the value, a row
    splits: Coded
    cond: Mapping[str, Coded] = field(default_factory=dict)
    tags: Mapping[str, Coded] = field(default_factory=dict)
    # Cells by column -> an item's value; None: there is one column, and each cell is an item.
    row: Callable[[dict[str, Any]], Any] | None = dict
    noted: Mapping[str, Coded] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return self.take(np.arange(len(self))[place])
        (item,) = self.take(np.array([range(len(self))[place]]))
        return item

    def __iter__(self) -> Iterator[Item]:
        said = (_told(each, len(self)) for each in (self.cond, self.tags))
        numbers, splits = self.numbers.tolist(), self.splits.each()
        for number, value, split, cond, tags in zip(
            numbers, self.values(), splits, *said, strict=True
        ):
            yield Item(value, f"{self.stem}{number}", cond, split, tags)

    def values(self) -> Iterator[Any]:
        """The value of each item."""
        if self.row is None:
            return self.cell.each()
        names, make = list(self.cells), self.row
        rows = zip(*(column.each() for column in self.cells.values()), strict=True)
        return (make(dict(zip(names, row, strict=True))) for row in rows)

    @property
    def cell(self) -> Coded:
        """The one column, of whose cells each is an item."""
        (column,) = self.cells.values()
        return column

    def take(self, index: np.ndarray) -> RecordBatch:
        """The items at `index` (M,)."""
        cells, cond, noted = (
            {name: column.take(index) for name, column in columns.items()}
            for columns in (self.cells, self.cond, self.noted)
        )
        tags = Later(self.tags, lambda name: self.tags[name].take(index))
        numbers, splits = self.numbers[index], self.splits.take(index)
        return RecordBatch(self.stem, numbers, cells, splits, cond, tags, self.row, noted)

    def column(self, name: str) -> Coded:
        """The cells of a column; None in all for one that there is not."""
        return self.cells[name] if name in self.cells else Coded.same(None, len(self))

    def rows_of(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """The different rows that there are of these columns, in the order in which they come."""
        there = [name for name in names if name in self.cells]
        rows = combined([self.cells[name] for name in there], len(self))
        return [dict(zip(there, row, strict=True)) for row in rows.values]

    def said(self, name: str) -> Coded:
        """What is said of each item by one name, None where nothing is: a condition, else a tag."""
        none = Coded.same(None, len(self))
        column = self.cond.get(name, none)
        if None not in column.values or name not in self.tags:
            return column
        both = combined([column, self.tags[name]], len(self))
        return both.map(lambda pair: pair[1] if pair[0] is None else pair[0])

    @property
    def num_bytes(self) -> int:
        """About how much memory it takes; tags are cells once more, as they are written."""
        columns = (*self.cells.values(), *self.cond.values(), *self.noted.values())
        return sum(each.codes.nbytes + 2 * VALUE_BYTES * len(each.values) for each in columns)


def combined(columns: Sequence[Coded], num: int) -> Coded:
    """Columns (N,) as one of tuples, the different ones in the order in which they come."""
    key = np.zeros(num, np.int64)
    for column in columns:
        _, key = np.unique(key * len(column.values) + column.codes, return_inverse=True)
    different = Coded(range(int(key.max(initial=-1)) + 1), key)
    first = np.full(len(different.values), num)
    first[key[::-1]] = np.arange(num)[::-1]
    tuples = [tuple(c.values[c.codes[place]] for c in columns) for place in first.tolist()]
    return Coded(tuples, key).take(np.arange(num))


def _told(columns: Mapping[str, Coded], num: int) -> Iterator[dict[str, Any]]:
    """What is said of each item."""
    if not columns:
        return ({} for _ in range(num))
    names = list(columns)
    rows = zip(*(column.each() for column in columns.values()), strict=True)
    return ({n: v for n, v in zip(names, row, strict=True) if v is not None} for row in rows)


class RecordBatches(Iterator[Item]):
    """Items that come in batches."""

    def __init__(self, batches: Iterable[Sequence[Item]]) -> None:
        self._batches = iter(batches)
        self._now: Iterator[Item] = iter(())

    def __next__(self) -> Item:
        while (item := next(self._now, None)) is None:
            self._now = iter(next(self._batches))
        return item

    def batches(self) -> Iterator[Sequence[Item]]:
        """The batches, for who takes none of the items one by one."""
        return self._batches


def in_batches(items: Iterable[Item], most: int) -> Iterator[Sequence[Item]]:
    """Items as they come together, else so many at a time."""
    if isinstance(items, RecordBatches):
        yield from items.batches()
        return
    rest = iter(items)
    while some := list(itertools.islice(rest, most)):
        yield some


@runtime_checkable
class EncodesBatches(Protocol):
    """Optional for a codec: `encode_many` takes a `RecordBatch` by its columns."""

    def check_batch(self, batch: RecordBatch, report: Report) -> None:
        """`Codec.check_fits` of all. Raises `DataError` where one does not fit: they are to be
        looked at one by one then, and nothing was noted in the report."""
        ...
