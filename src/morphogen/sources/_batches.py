"""Rows of tables, or the items in a column of theirs, many at once: by columns where all of them
have the same cells.

What columns cannot hold (rows with more or fewer cells than the header, empty cells where items
should be, files, tables of other kinds) comes as lists of records, which say the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from morphogen.core.codec import Report
from morphogen.sources._columns import Columns, is_absent, is_file, tag_of
from morphogen.sources._read import records, said_beside, source_of
from morphogen.sources._record import Record, Wants
from morphogen.sources._record_batch import BATCH, Coded, Later, RecordBatch
from morphogen.sources._table import (
    Table,
    TableSource,
    check_header,
    choose,
    records_in,
    records_of,
    row_of,
)
from morphogen.sources.memory import Memory

Batch = RecordBatch | list[Record]


def batches(source: Any, wants: Wants, report: Report) -> Iterator[Batch]:
    """The records of `source`, in the same order and with the same notes in the report, many at a
    time."""
    place = source_of(source)
    tables: Iterable[Table] | None = None
    if isinstance(place, TableSource):
        tables = place.tables()
    elif isinstance(place, Memory):
        tables = place.whole_tables()
    if tables is None or said_beside(source):
        yield from _listed(records(source, wants, report))
        return
    for table in tables:
        yield from _of_table(table, wants, report)


def _listed(found: Iterable[Record]) -> Iterator[list[Record]]:
    rest = iter(found)
    while some := list(itertools.islice(rest, BATCH)):
        yield some


def _of_table(table: Table, wants: Wants, report: Report) -> Iterator[Batch]:
    lower = {name.strip().lower() for name in table.columns}
    other = table.media or table.classes or wants.arrays is not None or not table.columns
    if table.batches is None or other or len(lower) < len(table.columns):
        yield from _listed(records_of(table, wants, report))
        return
    check_header(table, report)
    columns = choose(table, wants)
    for first, cells in table.batches():
        if isinstance(cells, dict):
            batch = _record_batch(table, columns, first, cells)
            if batch is not None and (columns.item is None or _are_items(batch.cell, wants)):
                yield batch
                continue
            each = (own.each() if isinstance(own, Coded) else own for own in cells.values())
            cells = list(map(list, zip(*each, strict=True)))
        named = ((f"{table.name}#row {number}", row_of(table.columns, row))
                 for number, row in enumerate(cells, first))  # fmt: skip
        yield list(records_in(table, named, columns, wants, report))


def _are_items(cells: Coded, wants: Wants) -> bool:
    """Whether each cell is an item by itself: none is empty, and none names a file."""
    return wants.cell is not None and not any(
        is_absent(cell) or is_file(cell, wants) for cell in cells.values
    )


def _record_batch(
    table: Table, columns: Columns, first: int, cells: Mapping[str, Sequence[Any] | Coded]
) -> RecordBatch | None:
    """Rows by columns; None where a cell holds a list or the like."""
    item = columns.item
    try:
        raw = {n: own if isinstance(own, Coded) else Coded.of_any(own) for n, own in cells.items()}
    except TypeError:
        return None
    num = len(next(iter(raw.values())).codes)
    splits = Coded.same(table.split, num)
    if (name := columns.split) is not None:
        splits = raw[name].map(lambda cell: columns.split_in({name: cell}) or table.split)
    tagged = {tag: raw[column] for column, tag in columns.tagged(raw)}
    cond = {} if item is None else {
        name: raw[column].map(partial(columns.said, column)) for name, column in columns.saying()
    }  # fmt: skip
    return RecordBatch(
        f"{table.name}#row ",
        np.arange(first, first + num),
        columns.rest(raw) if item is None else {item: raw[item]},
        splits,
        cond,
        Later(tagged, lambda tag: tagged[tag].map(tag_of)),
        dict if item is None else None,
    )
