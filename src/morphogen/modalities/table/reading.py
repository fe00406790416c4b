"""From a source to rows, and which column is the target."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from morphogen.core.codec import Item, Problem, Recognition, Report
from morphogen.core.codec import Text as Listed
from morphogen.core.errors import DataError, did_you_mean
from morphogen.modalities.table.cells import Cell, parsed_row
from morphogen.sources import Record, Wants, records, survey, texts

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


def read_rows(source: Any, report: Report, target: str) -> Iterator[Item]:
    """Every row of a source. The target's cell is the condition `label`, apart from the row."""
    found = _parsed(records(source, wants(), report), report)
    first = list(itertools.islice(found, FIRST))
    column = target_column([row for _, row in first], target, report)
    for record, row in itertools.chain(first, found):
        cond = dict(record.cond)
        if column is not None and (cell := row.pop(column, None)) is not None:
            cond["label"] = cell
        if all(cell is None for cell in row.values()):
            fix = "delete the row"
            report.problems.append(Problem(record.name, "every cell is empty", fix, fatal=True))
            continue
        report.num_read += 1
        yield Item(row, record.name, cond, record.split, record.tags)


def _parsed(found: Iterable[Record], report: Report) -> Iterator[tuple[Record, Row]]:
    """Records with their rows; those that have fewer cells than others are counted."""
    widest = 0
    for record in found:
        row = record.value()
        widest = max(widest, len(row))
        if len(row) < widest:
            report.facts["short_rows"] = report.facts.get("short_rows", 0) + 1
        yield record, parsed_row(row)


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
