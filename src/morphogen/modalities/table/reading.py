"""From a source to rows, and which column is the target."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from morphogen.core.codec import Item, Problem, Recognition, Report
from morphogen.core.codec import Text as Listed
from morphogen.core.errors import DataError, did_you_mean
from morphogen.modalities.table.cells import Cell, Parsed, parsed, parsed_row
from morphogen.sources import Batch, RecordBatch, RecordBatches, Wants, batches, survey, texts

TARGETS = ("label", "class", "target")
FIRST = 500  # rows by which the target is judged
MOST_CLASSES = 50
AUTO, NONE = "auto", "none"
Row = dict[str, Cell]


def wants() -> Wants:
    """What this codec opens."""
    return Wants("row", rows=True)


def recognise(source: Any) -> Recognition | None:
    """How sure it is that `source` holds rows, and why."""
    seen = survey(source)
    names = [name for name in seen.columns if name]
    if not names or seen.media:
        return None
    listed = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return Recognition(0.6, f"a table of {len(names)} columns: {listed}")


def read_rows(source: Any, report: Report, target: str, *, empty: bool = False) -> RecordBatches:
    """Every row of a source, those without any cell only where `empty` ones are asked for. The
    target's cell is the condition `label`, apart from the row."""
    return RecordBatches(_read(source, report, target, empty))


def _read(source: Any, report: Report, target: str, empty: bool) -> Iterator[Sequence[Item]]:
    found = _parsed(batches(source, wants(), report), report)
    first: list[Sequence[Item]] = []
    while sum(map(len, first)) < FIRST and (some := next(found, None)) is not None:
        first.append(some)
    rows = itertools.islice((item.value for some in first for item in some), FIRST)
    column = target_column(list(rows), target, report)
    for some in itertools.chain(first, found):
        batch = _with_target(some, column) if isinstance(some, RecordBatch) else None
        if batch is not None:
            report.num_read += len(batch)
            yield batch
        else:
            yield list(_filled(some, column, report, empty))


def _parsed(found: Iterable[Batch], report: Report) -> Iterator[Sequence[Item]]:
    """Batches with their rows as values; rows that have fewer cells than others are counted."""
    widest = 0
    for some in found:
        if isinstance(some, RecordBatch):
            widths = [len(some.cells)] * len(some)
            cells = {name: column.map(parsed) for name, column in some.cells.items()}
            batch: Sequence[Item] = replace(some, cells=cells, row=Parsed)
        else:
            rows = [record.value() for record in some]
            widths = list(map(len, rows))
            batch = [
                Item(parsed_row(row), each.name, dict(each.cond), each.split, each.tags)
                for each, row in zip(some, rows, strict=True)
            ]
        for width in widths:
            widest = max(widest, width)
            if width < widest:
                report.facts["short_rows"] = report.facts.get("short_rows", 0) + 1
        yield batch


def _with_target(batch: RecordBatch, column: str | None) -> RecordBatch | None:
    """The batch with the target as the label; None where a row has no cell that is not empty."""
    cells = {name: own for name, own in batch.cells.items() if name != column}
    filled = np.zeros(len(batch), bool)
    for own in cells.values():
        if filled.all():
            break
        filled |= np.array([value is not None for value in own.values])[own.codes]
    if not filled.all():
        return None
    target = batch.cells.get(column or "")
    return replace(batch, cells=cells, cond={} if target is None else {"label": target})


def _filled(
    items: Iterable[Item], column: str | None, report: Report, empty: bool
) -> Iterator[Item]:
    """Row by row: those without any cell are problems, but for a user who asks for such."""
    for item in items:
        row = item.value
        if column is not None and (cell := row.pop(column, None)) is not None:
            item.cond["label"] = cell
        if not empty and all(cell is None for cell in row.values()):
            fix = "delete the row"
            report.problems.append(Problem(item.name, "every cell is empty", fix, fatal=True))
            continue
        report.num_read += 1
        yield item


def target_column(rows: Sequence[Row], target: str, report: Report) -> str | None:
    """The column that rows are drawn for the values of: the one asked for, or one of `TARGETS` with
    few values. Raises `DataError` when there is none of that name."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if target not in (AUTO, NONE):
        if target not in names:
            raise DataError(
                f"the table has no column {target!r}.{did_you_mean(target, names)}",
                found=", ".join(names[:20]),
                where=report.source,
                hint="--set modality.target=NAME, or none",
            )
        report.facts["target"] = _told(target)
        return target
    lower = {name.strip().lower(): name for name in names}
    found = next((lower[name] for name in TARGETS if name in lower), None)
    if target == NONE or found is None or len(names) < 2:
        return None
    cells = [row[found] for row in rows if row.get(found) is not None]
    values = {str(cell) for cell in cells}
    continuous = any(isinstance(cell, float) for cell in cells)
    if continuous or len(values) > MOST_CLASSES or len(values) * 2 > len(cells):
        report.facts["target"] = f"{found} has too many values for classes: a column like others"
        return None
    report.facts["target"] = _told(found)
    return found


def _told(column: str) -> str:
    return f"{column}: rows are drawn for a value of it (--set modality.target=none: drawn with it)"


def list_texts(source: Any) -> Iterator[Listed]:
    """The cells that are texts."""
    yield from texts(source, wants())
