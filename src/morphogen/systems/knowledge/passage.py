"""Documents, the blocks that they are made of, and the passages that are found."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

EVERYONE = "everyone"  # the group that all belong to

Kind = Literal["text", "table", "code", "caption"]


@dataclass(frozen=True)
class Block:
    """A stretch of a document that belongs together: a paragraph, a table, a function.

    `start` and `end` are offsets into the text of the document, which is its blocks joined by
    `BETWEEN`; of a format that has pages, `page` counts from 1.
    """

    text: str
    heading: tuple[str, ...] = ()  # titles above it, outermost first
    page: int | None = None
    kind: Kind = "text"


BETWEEN = "\n\n"  # stands between two blocks of a document's text


@dataclass(frozen=True)
class Document:
    """A document as it was read."""

    place: str  # of the file, below what was indexed; a slash between folders
    title: str
    digest: str  # of the bytes of the file
    blocks: tuple[Block, ...]
    readers: tuple[str, ...] = (EVERYONE,)  # groups that may read it
    facts: Mapping[str, Any] = field(default_factory=dict)  # "author", "modified", ..

    @property
    def text(self) -> str:
        """What offsets of passages point into."""
        return BETWEEN.join(block.text for block in self.blocks)


@dataclass(frozen=True)
class Passage:
    """What is found: a part of a document that can be read by itself."""

    place: str
    title: str
    text: str
    heading: tuple[str, ...]
    page: int | None
    start: int  # of its text within the document's
    end: int
    number: int  # among the passages of its document, from 0

    @property
    def context(self) -> str:
        """What it is found by: the titles above it, and its text."""
        above = [self.title, *self.heading]
        return "\n".join([" > ".join(dict.fromkeys(filter(None, above))), self.text]).strip()

    @property
    def digest(self) -> str:
        """Tells it from others, wherever it lies in an index."""
        told = f"{self.place}\0{self.number}\0{self.start}\0{self.text}"
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def where(self) -> str:
        """For a person: "handbook.pdf, page 4, Leave > Notice"."""
        page = f"page {self.page}" if self.page is not None else ""
        return ", ".join(filter(None, [self.place, page, " > ".join(self.heading)]))
