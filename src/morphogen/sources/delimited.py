"""CSV and TSV: cells divided by commas, semicolons or tabs, as Excel and pandas write them, and
packed by gzip.

The first line may be Excel's `sep=;`; cells in quotes may hold line ends; a header names the
columns and is row 1.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, cast

from morphogen.core.errors import DataError
from morphogen.sources._encoding import Opener, open_text
from morphogen.sources._record_batch import BATCH
from morphogen.sources._regular import open_regular
from morphogen.sources._shards import TableFiles
from morphogen.sources._table import Cells, Row, Table, row_of

PLAIN = (".csv", ".tsv", ".tab")
SUFFIXES = (*PLAIN, *(f"{suffix}.gz" for suffix in PLAIN))
DELIMITERS = ",;\t|"
CELLS = 1 << 18  # that are read together, about
MOST_IN_CELL = 1 << 24  # characters; beyond, a quote was left open


class Delimited(TableFiles):
    """A file of values separated by commas, semicolons or tabs, or a folder of such files."""

    suffixes = SUFFIXES

    @classmethod
    def table_in(cls, path: Path, name: str) -> Table:
        opener = _unzipped if path.suffix.lower() == ".gz" else open_regular
        try:  # all of it is read at once, to know in which code it is
            return delimited_table(partial(opener, path), name, path.parent, str(path))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(
                f"the gzip file is damaged: {error}", where=str(path), hint="fetch or pack it again"
            ) from error


def _unzipped(path: Path) -> IO[bytes]:
    """A file that is packed by gzip, unpacked as it is read."""
    return cast(IO[bytes], gzip.GzipFile(fileobj=open_regular(path)))


def delimited_table(
    open_bytes: Opener, name: str, folder: Path | None = None, where: str = ""
) -> Table:
    """Bytes of CSV or TSV -> a table. Raises `DataError` when they are not text."""
    where = where or name
    with open_text(open_bytes, where) as stream:
        first = stream.readline()
        stated = stated_delimiter(first)
        header = stream.readline() if stated else first
    delimiter = stated or max(DELIMITERS, key=_outside_quotes(header).count)
    skip = 1 if stated else 0

    def reader() -> Iterator[list[str]]:
        csv.field_size_limit(MOST_IN_CELL)
        with open_text(open_bytes, where) as stream:
            for _ in range(skip):
                stream.readline()
            try:
                yield from csv.reader(stream, delimiter=delimiter)
            except (csv.Error, UnicodeError) as error:
                raise DataError(f"the table cannot be read: {error}", where=where) from error

    columns = distinct([cell.strip() for cell in next(reader(), [])])

    def rows() -> Iterator[tuple[str, Row]]:
        lines = reader()
        next(lines, None)
        for number, cells in enumerate(filter(None, lines), 2):
            yield f"{name}#row {number}", row_of(columns, cells)

    def batches() -> Iterator[tuple[int, Cells]]:
        lines = reader()
        next(lines, None)
        number, rest, most = 2, filter(None, lines), max(min(BATCH, CELLS // len(columns)), 1)
        while some := list(itertools.islice(rest, most)):
            even = all(len(cells) == len(columns) for cells in some)
            yield number, dict(zip(columns, zip(*some, strict=True), strict=True)) if even else some
            number += len(some)

    named = [column for column in columns if column]
    found = Table(name, named, rows, folder, where=where)
    found.batches = batches if named and named == columns else None
    return found


def distinct(columns: Sequence[str]) -> list[str]:
    """Names of columns, a second `x` called `x (2)`: no cell is lost to another. Those without a
    name stay so."""
    found: list[str] = []
    for name in columns:
        number, called = 2, name
        while called and called in found:
            number, called = number + 1, f"{name} ({number})"
        found.append(called)
    return found


def stated_delimiter(line: str) -> str | None:
    """The delimiter that Excel's first line `sep=;` states."""
    text = line.strip().strip('"').lower()
    return text[4:] if text.startswith("sep=") and len(text) == 5 else None


def rows_divided_by(head: bytes) -> str | None:
    """What divides the cells of a file that begins like this; None where it does not look like
    rows: three lines and more with as many cells each, two and more."""
    if b"\0" in head:
        return None
    text, _, _ = head.decode("utf-8", errors="replace").rpartition("\n")  # the last may be cut off
    lines = text.splitlines()
    for delimiter in DELIMITERS:
        counts = {_outside_quotes(line).count(delimiter) for line in lines if line.strip()}
        if len(lines) >= 3 and len(counts) == 1 and counts != {0}:
            return delimiter
    return None


def _outside_quotes(line: str) -> str:
    return "".join(line.split('"')[::2])
