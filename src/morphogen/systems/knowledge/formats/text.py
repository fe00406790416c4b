"""Plain text: paragraphs are what stands between empty lines."""

from __future__ import annotations

from morphogen.systems.knowledge.formats import Parts
from morphogen.systems.knowledge.formats._text import paragraphs, text_of

SUFFIXES = (".txt", ".text", ".log", ".rst", ".org", ".tex")
LONGEST_TITLE = 120  # characters of a first line that is one


def parts(data: bytes, place: str) -> Parts:
    """The first line is the title where it stands alone and is short."""
    blocks = list(paragraphs(text_of(data)))
    first = blocks[0].text if blocks else ""
    title = first if "\n" not in first and len(first) <= LONGEST_TITLE and len(blocks) > 1 else ""
    return title, blocks, {}
