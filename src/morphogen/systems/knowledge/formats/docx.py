"""Word documents: paragraphs under the headings of their styles, tables with what stands above."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from morphogen.systems.knowledge.formats import Parts, library
from morphogen.systems.knowledge.formats._text import rows_as_text
from morphogen.systems.knowledge.passage import Block

SUFFIXES = (".docx",)
_LEVEL = re.compile(r"heading (\d)", re.IGNORECASE)


def parts(data: bytes, place: str) -> Parts:
    """The title is the document's own, else its first paragraph of the style "Title"."""
    document = library("docx").Document(io.BytesIO(data))
    about = document.core_properties
    styled = (p.text for p in document.paragraphs if p.style and p.style.name == "Title")
    title = about.title or next(styled, "")
    facts = {"author": about.author, "modified": str(about.modified or "")}
    return title, _blocks(document, title), {name: value for name, value in facts.items() if value}


def _blocks(document: Any, title: str) -> Iterator[Block]:
    heading: list[tuple[int, str]] = []
    for part in document.iter_inner_content():
        above = tuple(name for _, name in heading)
        if hasattr(part, "rows"):
            yield Block(rows_as_text([c.text for c in row.cells] for row in part.rows), above,
                        kind="table")  # fmt: skip
            continue
        style = part.style.name if part.style is not None else ""
        if found := _LEVEL.match(style):
            level = int(found.group(1))
            heading = [each for each in heading if each[0] < level] + [(level, part.text)]
        elif part.text.strip() and part.text != title:
            yield Block(part.text, above, kind="caption" if style == "Caption" else "text")
