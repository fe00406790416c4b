"""JSON lines: a record is a block, its fields one below the other; `title` is its heading."""

from __future__ import annotations

import json
from collections.abc import Iterator

from morphogen.core.errors import DataError
from morphogen.systems.knowledge.formats import Parts
from morphogen.systems.knowledge.formats._text import text_of
from morphogen.systems.knowledge.passage import Block

SUFFIXES = (".jsonl", ".ndjson")
TITLES = ("title", "name", "heading")


def parts(data: bytes, place: str) -> Parts:
    """Raises `DataError` for a line that is no record."""
    return "", list(_blocks(text_of(data), place)), {}


def _blocks(text: str, place: str) -> Iterator[Block]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(
                "a line is no JSON", found=line[:80], where=f"{place}:{number}"
            ) from error
        if not isinstance(record, dict):
            record = {"text": record}
        title = next((str(record[name]) for name in TITLES if record.get(name)), "")
        said = [_said(name, value) for name, value in record.items() if name not in TITLES]
        body = "\n".join(filter(None, said)) or title
        yield Block(body, (title,) if title else ())


def _said(name: str, value: object) -> str:
    """A field as text: long texts by themselves, others with their names."""
    if isinstance(value, str) and len(value) > 60:
        return value
    return "" if value in (None, "", [], {}) else f"{name}: {value}"
