"""A table, wherever it comes from, and the records in its rows.

The items of a table are files that it names or holds, cells of one column, or whole rows: whatever
the codec wants of these. What the other columns say goes with each.
"""

from __future__ import annotations

import itertools
import math
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from morphogen.core.codec import Problem, Report, Text
from morphogen.core.errors import DataError
from morphogen.sources._columns import (
    PATH_COLUMNS,
    Columns,
    is_absent,
    is_file,
    item_column,
    suffix_of,
)
from morphogen.sources._half import captioned, half_in
from morphogen.sources._record import Record, Source, Survey, Wants
from morphogen.sources._record_batch import Coded
from morphogen.sources._regular import inside, read_regular

NUM_SAMPLES = 50  # rows by which columns are told apart
NUM_PIXELS = 16  # numbered columns of numbers, from which a row is one array
Row = dict[str, Any]
# Of some rows, by column the cells of all, or the different ones; or the cells of each, which may
# have more or fewer than others.
Cells = dict[str, Sequence[Any] | Coded] | list[list[Any]]


@dataclass
class Table:
    """Rows with named cells; `rows()` starts anew each time."""

    name: str  # what its rows are called by: `name#row 3`
    columns: list[str]
    rows: Callable[[], Iterator[tuple[str, Row]]]
    folder: Path | None = None  # what the paths in it start from
    split: str | None = None  # of all rows
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)  # column -> class names
    media: frozenset[str] = frozenset()  # columns that hold files
    texts: frozenset[str] | None = None  # columns that hold texts; None: any may
    num: int | None = None
    where: str = ""
    trusted: bool = False  # made by the user's own code: it may name any file
    # Many rows at once, where they can be had so, and the number of the first.
    batches: Callable[[], Iterator[tuple[int, Cells]]] | None = None

    @property
    def samples(self) -> dict[str, list[Any]]:
        """Column -> the cells of the first rows."""
        if "_samples" not in self.__dict__:
            rows = [row for _, row in itertools.islice(self.rows(), NUM_SAMPLES)]
            self.__dict__["_samples"] = {c: [row.get(c) for row in rows] for c in self.columns}
        samples: dict[str, list[Any]] = self.__dict__["_samples"]
        return samples

    def survey(self, kind: str = "table", name: str = "") -> Survey:
        """Its columns with some of their cells."""
        return Survey(
            kind, columns=self.samples, media=self.media, num=self.num, name=name or self.name
        )


def row_of(columns: Sequence[str], cells: Sequence[Any]) -> Row:
    """Cells by column; those beyond the last are called None."""
    row: Row = dict(zip(columns, cells, strict=False))
    if len(cells) > len(columns):
        row[None] = cells[len(columns) :]  # type: ignore[index]
    return row


def choose(table: Table, wants: Wants) -> Columns:
    """Which column says what. Raises `DataError` when the table holds no items of this kind."""
    item = item_column(table.samples, table.media, wants)
    if item is None and not wants.rows:
        raise no_items(table, wants)
    return Columns.find(table.samples, item, table.classes)


def no_items(table: Table, wants: Wants) -> DataError:
    """The error for a table without a column of items."""
    if not wants.suffixes:
        return DataError(
            f"the table has no column of {wants.what}s",
            found=", ".join(table.columns) or "an empty file",
            where=table.where or table.name,
        )
    return DataError(
        f"the table has no column that names {wants.what} files",
        found=_listed(table.columns) or "an empty file",
        expected=f"a column called one of {', '.join(PATH_COLUMNS[:9])}",
        where=table.where or table.name,
        hint="if the files lie beside it without their suffix in the table, name the folder",
    )


def records_of(table: Table, wants: Wants, report: Report) -> Iterator[Record]:
    """One record per row; rows without an item are problems."""
    check_header(table, report)
    if wants.arrays is not None and (stack := pixel_columns(table.samples, wants)):
        yield from _arrays_in_rows(table, stack)
        return
    yield from records_in(table, table.rows(), choose(table, wants), wants, report)


def check_header(table: Table, report: Report) -> None:
    """Tell where what names the columns is a row, by its looks."""
    if names := numbers_as_names(table.samples):
        report.problems.append(
            Problem(
                table.name,
                f"what names its columns looks like a row: {_listed(names)}",
                "put a line of names before it, if it is one: it is not learned from",
            )
        )


def records_in(
    table: Table,
    rows: Iterable[tuple[str, Row]],
    columns: Columns,
    wants: Wants,
    report: Report,
) -> Iterator[Record]:
    """Some rows of a table as records."""
    for numbered in _rows_with_one(rows, columns, wants, report):
        record = _record(table, columns, numbered, wants, report)
        if record is None:
            continue
        row = numbered[1]
        record.split = columns.split_in(row) or table.split
        record.tags = columns.tags(row)
        for name, cond in captioned(record.name, record.cond):
            same = name == record.name and cond is record.cond  # no caption: as nearly always
            yield record if same else replace(record, name=name, cond=cond)


def numbers_as_names(samples: Mapping[str, Sequence[Any]]) -> list[str]:
    """Names that are numbers, of columns of numbers: the first row of a table without a header. Not
    those that count (`0`, `1`, `2`; years) or grow (wavelengths): these are names."""
    plain = {name: name.split(" (")[0] for name in samples}  # a second `x` is called `x (2)`
    found = [
        name
        for name, cells in samples.items()
        if _is_number(plain[name]) and any(map(_is_number, cells))
    ]
    values = [float(plain[name]) for name in found]
    grows = len(values) > 2 and all(a < b for a, b in itertools.pairwise(values))
    counts = all(b - a == 1 for a, b in itertools.pairwise(values))
    named = values and (grows or (counts and len(values) > 1))
    return [] if named else found


def _is_number(cell: Any) -> bool:
    try:
        return math.isfinite(float(str(cell)))
    except ValueError:
        return False


def _rows_with_one(
    rows: Iterable[tuple[str, Row]], columns: Columns, wants: Wants, report: Report
) -> Iterator[tuple[str, Row]]:
    """Every row, and one that lists several items once for each of them."""
    for name, row in rows:
        if None in row:
            beyond = report.facts.get("rows_longer_than_the_header", 0)
            report.facts["rows_longer_than_the_header"] = beyond + 1
        cells = row.get(columns.item) if columns.item is not None and wants.cell else None
        if not isinstance(cells, (list, tuple)) or not all(map(wants.cell or bool, cells)):
            yield name, row
            continue
        for number, cell in enumerate(cells, 1):
            yield name if number == 1 else f"{name}.{number}", {**row, str(columns.item): cell}


def _record(
    table: Table, columns: Columns, numbered: tuple[str, Row], wants: Wants, report: Report
) -> Record | None:
    name, row = numbered
    if columns.item is None:
        return Record(name, "row", partial(columns.rest, row))
    cell, suffix = row.get(columns.item), ""
    cond = columns.conditions(row)
    for column in table.media - {columns.item}:
        if (half := half_in(name, column, row.get(column))) is not None:
            cond[column] = half
    if isinstance(cell, Mapping) and ("bytes" in cell or "path" in cell):  # as the Hub has files
        suffix = suffix_of(str(cell.get("path") or ""))
        cell = cell.get("bytes") or cell.get("path")
    if is_absent(cell):
        media = columns.item in table.media or isinstance(row.get(columns.item), (bytes, Mapping))
        reason = "the cell is empty" if media or not wants.suffixes else "no file is named"
        fix = "correct the path or delete the row" if not media else "fill it or delete the row"
        report.problems.append(Problem(name, reason, fix, fatal=True, field=columns.item))
        return None
    by_cell = wants.cell is not None and not is_file(cell, wants)
    if isinstance(cell, bytes) or by_cell or not isinstance(cell, str):
        return Record(name, "cell", lambda: cell, suffix, cond, num_bytes=_length(cell))
    read = partial(_read_named, table, cell.strip())
    return Record(name, "file", read, suffix_of(cell.strip()), cond)


def _length(cell: Any) -> int:
    return len(cell) if isinstance(cell, (bytes, str)) else 0


def _read_named(table: Table, file: str) -> bytes:
    """The file that a cell names, from the table's folder."""
    folder = table.folder
    if folder is None:
        raise DataError(
            f"the file is not read: {file}", hint="a table that lies in no folder names no files"
        )
    path = folder / file if table.trusted else inside(folder, file)
    if not path.is_file():
        if path.exists():
            return read_regular(path)  # a pipe, a folder: says what it is
        raise DataError(
            f"the file does not exist: {file}",
            hint=f"correct the path (it is relative to {folder}) or delete the row",
        )
    return read_regular(path)


# -- rows of numbers ------------------------------------------------------------------------------


def pixel_columns(
    samples: Mapping[str, Sequence[Any]], wants: Wants
) -> tuple[list[str], tuple[int, ...]] | None:
    """The columns pixel0, pixel1, ... of a table that holds one array a row, and its shape."""
    numbered: dict[str, list[str]] = {}
    for column in samples:
        stem = column.strip().lower().rstrip("0123456789x")
        if stem != column.strip().lower() and _are_numbers(samples[column]):
            numbered.setdefault(stem, []).append(column)
    best = max(numbered.values(), key=len, default=[])
    if len(best) < NUM_PIXELS or len(best) < len(samples) - 3 or wants.arrays is None:
        return None
    side = round(len(best) ** 0.5)
    for shape in ((side, side), (round((len(best) / 3) ** 0.5),) * 2 + (3,)):
        if np.prod(shape) == len(best) and wants.arrays((1, *shape), np.dtype(np.uint8)):
            return best, shape
    return None


def _are_numbers(cells: Iterable[Any]) -> bool:
    try:
        return all(0 <= float(cell) <= 65535 for cell in cells)
    except (TypeError, ValueError):
        return False


def _arrays_in_rows(table: Table, stack: tuple[list[str], tuple[int, ...]]) -> Iterator[Record]:
    names, shape = stack
    others = {column: cells for column, cells in table.samples.items() if column not in set(names)}
    columns = Columns.find(others, None, table.classes)

    def array(row: Row) -> np.ndarray:
        try:
            values = np.array([float(row[name]) for name in names]).reshape(shape)
        except (TypeError, ValueError, KeyError) as error:
            raise DataError("not every value is a number", hint="correct the row") from error
        whole = bool((np.mod(values, 1) == 0).all()) and 0 <= values.min() <= values.max() <= 255
        return values.astype(np.uint8 if whole else np.float32)

    for name, row in table.rows():
        tags = columns.tags({key: value for key, value in row.items() if key in others})
        split = columns.split_in(row) or table.split
        cond = columns.conditions(row)
        yield Record(name, "array", partial(array, row), cond=cond, split=split, tags=tags)


# -- texts and defects ----------------------------------------------------------------------------


def texts_of(table: Table, wants: Wants, with_paths: bool = True) -> Iterator[Text]:
    """Every cell that is a text; the names of files that are seen anyway are left out."""
    item = item_column(table.samples, table.media, wants)
    for where, row in table.rows():
        for column, value in row.items():
            if column is None:  # cells beyond the last column
                yield from (Text(where, "no column", cell) for cell in value if cell)
            elif not isinstance(value, str) or not value:
                continue
            elif column != item or not (wants.suffixes and is_file(value, wants)):
                if column != item or with_paths:
                    yield Text(where, column, value)
            elif with_paths:
                yield Text(where, column, value.rpartition(".")[0] or value, is_name=True)


def defects_of(table: Table, wants: Wants, item: str | None = None) -> Iterator[Problem]:
    """Rows that leave the folder, name a file twice, contradict one another or are empty."""
    item = item or item_column(table.samples, table.media, wants)
    columns = Columns.find(table.samples, item, table.classes)
    seen: dict[str, tuple[str, Row]] = {}
    for where, row in table.rows():
        file = row.get(item) if item else None
        file = file.strip() if isinstance(file, str) and wants.suffixes else ""
        if item and file and (os.path.isabs(file) or os.path.normpath(file).startswith("..")):
            fix = "copy the file below the table's folder and name it from there"
            yield Problem(where, f"the path leaves the folder: {file}", fix, field=item)
        for column in (columns.caption, columns.label):
            if (
                column
                and (file or item is None or not wants.suffixes)
                and is_absent(row.get(column))
            ):
                yield Problem(where, f"an empty {column}", "write one", field=column)
        if None in row:
            yield Problem(where, "more cells than columns", "put quotes around cells with commas")
        if item and file:
            before = seen.setdefault(os.path.normpath(file), (where, row))
            if before[0] != where:
                yield _repeated(columns, before, (where, row), file)


def _repeated(
    columns: Columns, before: tuple[str, Row], now: tuple[str, Row], file: str
) -> Problem:
    reason = f"{file} has a row already, {before[0].rpartition('#')[2]}"
    for column in (columns.label, columns.split, columns.caption):
        if column and before[1].get(column) != now[1].get(column):
            reason += (
                f", with another {column}: {before[1].get(column)!r}, here {now[1].get(column)!r}"
            )
            return Problem(now[0], reason, "delete the wrong one", field=column)
    return Problem(now[0], reason, "delete one of the rows", field=columns.item or "")


def _listed(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


class TableSource(Source):
    """A place of one table, which may lie in several files: subclasses say where."""

    kind = "table"

    @abstractmethod
    def tables(self) -> Iterator[Table]:
        """What lies there, as tables."""

    def records(self, wants: Wants, report: Report) -> Iterator[Record]:
        for table in self.tables():
            yield from records_of(table, wants, report)

    def texts(self, wants: Wants) -> Iterator[Text]:
        for table in self.tables():
            yield from texts_of(table, wants)

    def defects(self, wants: Wants) -> Iterator[Problem]:
        for table in self.tables():
            if not table.media:
                yield from defects_of(table, wants)
