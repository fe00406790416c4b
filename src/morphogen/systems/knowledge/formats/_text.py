"""What formats of plain text share: bytes to text, lines to paragraphs, rows to a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from morphogen.modalities.text.encodings import decoded
from morphogen.systems.knowledge.passage import Block

_GAP = re.compile(r"\n[ \t]*\n\s*")


def text_of(data: bytes) -> str:
    """The text of a file, in whatever encoding; line ends as `\\n`."""
    text = decoded(data).text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def paragraphs(text: str, page: int | None = None) -> Iterator[Block]:
    """Blocks between empty lines."""
    for part in _GAP.split(text):
        if part.strip():
            yield Block(part.strip("\n"), page=page)


def rows_as_text(rows: Iterable[Sequence[object]]) -> str:
    """A table as lines of cells, the first line its head."""
    lines = []
    for row in rows:
        cells = [" ".join(str("" if cell is None else cell).split()) for cell in row]
        if any(cells):
            lines.append(" | ".join(cells))
    return "\n".join(lines)
