"""JSON lines: one object a line; and JSON files of a list of objects."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from morphogen.core.errors import DataError
from morphogen.sources._encoding import Opener, open_text
from morphogen.sources._regular import open_regular
from morphogen.sources._shards import TableFiles
from morphogen.sources._table import NUM_SAMPLES, Row, Table

SUFFIXES = (".jsonl", ".ndjson", ".jsonlines", ".json")
MAX_JSON = 1 << 29  # of a .json file, which is read whole, and of a line


class Lines(TableFiles):
    """A .jsonl, .ndjson or .json file of objects with the same keys, or a folder of such."""

    suffixes = SUFFIXES

    @classmethod
    def table_in(cls, path: Path, name: str) -> Table:
        return lines_table(partial(open_regular, path), name, path.parent, str(path))


def lines_table(
    open_bytes: Opener, name: str, folder: Path | None = None, where: str = ""
) -> Table:
    """Bytes of JSON lines, or of a JSON list of objects -> a table."""
    where = where or name
    objects = _objects if name.lower().endswith(".json") else _lines

    def rows() -> Iterator[tuple[str, Row]]:
        for number, row in objects(open_bytes, where):
            if not isinstance(row, dict):
                raise DataError(
                    "not an object with named values",
                    found=f"a {type(row).__name__} in row {number:,}",
                    expected='{"name": value, ...} in every line',
                    where=where,
                )
            yield f"{name}#row {number}", row

    columns: dict[str, None] = {}
    for number, (_, row) in enumerate(rows()):
        columns.update(dict.fromkeys(row))
        if number >= NUM_SAMPLES:
            break
    return Table(name, list(columns), rows, folder, where=where)


def _lines(open_bytes: Opener, where: str) -> Iterator[tuple[int, Any]]:
    with open_text(open_bytes, where) as stream:
        for number in itertools.count(1):
            line = stream.readline(MAX_JSON)
            if not line:
                return
            if len(line) == MAX_JSON:
                raise DataError(
                    f"row {number:,} is too long to be read whole",
                    found=f"{MAX_JSON:,} characters without a line end",
                    expected="one object a line",
                    where=where,
                    hint="if it is a text, save it as .txt, which is read in pieces",
                )
            if line.strip():
                yield number, _parsed(line, where, number)


def _objects(open_bytes: Opener, where: str) -> Iterator[tuple[int, Any]]:
    """A list of objects; else the one list in an object; else one object a line."""
    with open_text(open_bytes, where) as stream:
        text = stream.read(MAX_JSON + 1)
    if len(text) > MAX_JSON:
        hint = f"save it as JSON lines: jq -c '.[]' {where} > lines.jsonl"
        raise DataError("the .json file is too large to be read whole", where=where, hint=hint)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        yield from _lines(open_bytes, where)
        return
    if isinstance(found, dict):
        lists = [value for value in found.values() if isinstance(value, list)]
        listed = [each for each in lists if each and isinstance(each[0], dict)]
        if len(listed) != 1:
            raise DataError(
                "the .json file is no list of objects",
                found=f"an object with {', '.join(list(found)[:8])}",
                expected='[{"name": value, ...}, ...]',
                where=where,
                hint="save one object a line as .jsonl",
            )
        found = listed[0]
    yield from enumerate(found if isinstance(found, list) else [found], 1)


def _parsed(line: str, where: str, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise DataError(f"row {number:,} is no JSON: {reason}", where=where) from error
