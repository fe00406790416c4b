"""Rows that are looked at together, given one by one or by columns.

A codec is fitted to both by the same two questions: which values a column has, how often, and which
rows there are of a few columns that a rule is about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from morphogen.core.codec import Item
from morphogen.modalities.table.cells import Cell, parsed_row
from morphogen.modalities.table.rules import Row, Rule
from morphogen.sources import Coded, RecordBatch, in_batches


class Rows:
    """Rows as they are."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.names = list(dict.fromkeys(name for row in rows for name in row))

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> Sequence[Cell] | Coded:
        """The cells of a column; None where a row has none."""
        return [row.get(name) for row in self.rows]

    def of(self, names: Sequence[str]) -> Sequence[Row]:
        """All rows that a rule about these columns can tell apart, in order."""
        return self.rows


class Columns(Rows):
    """The rows of a batch."""

    def __init__(self, batch: RecordBatch) -> None:
        self.batch, self.names = batch, list(batch.cells)

    def __len__(self) -> int:
        return len(self.batch)

    def column(self, name: str) -> Coded:
        return self.batch.column(name)

    def of(self, names: Sequence[str]) -> Sequence[Row]:
        return self.batch.rows_of(names)


def together(items: Iterable[Item], most: int) -> Iterator[Rows]:
    """Items as rows, `most` at a time: the first as they are, since rules are proposed from them;
    then batches as they come."""
    rest: list[Item] = []
    begun = False
    for some in in_batches(items, 1):
        if begun and isinstance(some, RecordBatch):
            if rest:
                yield Rows([parsed_row(item.value) for item in rest])
                rest = []
            yield Columns(some)
            continue
        rest += some
        while len(rest) >= most:
            begun = True
            yield Rows([parsed_row(item.value) for item in rest[:most]])
            rest = rest[most:]
    if rest:
        yield Rows([parsed_row(item.value) for item in rest])


def breaks_or_completes(rules: Iterable[Rule], batch: RecordBatch) -> bool:
    """Whether a row of a batch breaks a rule by which a column is put back, or lacks a cell that
    follows from its others by any."""
    for rule in rules:
        for row in batch.rows_of(rule.names):
            if rule.complete(row) is not row or (rule.gives and not rule.holds(row)):
                return True
    return False
