"""Blocks of a document into passages: as long as fits, cut where the structure says.

Blocks under one heading are joined as long as they stay within `most` characters. What is longer is
cut between sentences, else between words; a table between rows, with its head (and the caption
above it) said again, so that each part can be read alone. A caption stays with what it belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from morphogen.systems.knowledge.passage import BETWEEN, Block, Document, Passage

MOST = 1200  # characters of a passage: some 250 tokens of English
_SENTENCE = re.compile(r"(?<=[.!?。！？])[\s\"')\]]*\s+|\n+")


@dataclass(frozen=True)
class _Piece:
    """Text that stands in the document at a place; `head` is said again before it."""

    text: str
    start: int
    end: int
    block: Block
    head: str = ""


def passages(document: Document, most: int = MOST) -> list[Passage]:
    """The passages of a document, in order. Their offsets point into `document.text`."""
    found: list[Passage] = []
    group: list[_Piece] = []
    for piece in _pieces(document, most):
        joined = group and _fits(group, piece, most)
        if group and not joined:
            found.append(_passage(document, group, len(found)))
            group = []
        group.append(piece)
    if group:
        found.append(_passage(document, group, len(found)))
    return [each for each in found if each.text.strip()]


def _fits(group: list[_Piece], piece: _Piece, most: int) -> bool:
    """Whether a piece goes on with the passage that is being made."""
    first, last = group[0], group[-1]
    if last.block.kind == "caption":  # stands above what it belongs to
        return len(last.text) + len(piece.text) <= 2 * most
    if piece.head or first.head:
        return False
    same = first.block.heading == piece.block.heading and first.block.page == piece.block.page
    size = sum(len(each.text) + len(BETWEEN) for each in group) + len(piece.text)
    return same and size <= most


def _passage(document: Document, group: list[_Piece], number: int) -> Passage:
    first, last = group[0], group[-1]
    whole = document.text[first.start : last.end]
    return Passage(
        document.place, document.title, f"{first.head}{whole}", first.block.heading,
        first.block.page, first.start, last.end, number,
    )  # fmt: skip


def _pieces(document: Document, most: int) -> Iterator[_Piece]:
    at = 0
    for block in document.blocks:
        if len(block.text) <= most:
            yield _Piece(block.text, at, at + len(block.text), block)
        elif block.kind == "table":
            yield from _rows(block, at, most)
        else:
            for start, end in _stretches(block.text, most):
                yield _Piece(block.text[start:end], at + start, at + end, block)
        at += len(block.text) + len(BETWEEN)


def _rows(block: Block, at: int, most: int) -> Iterator[_Piece]:
    """A long table in parts, the first line before each."""
    head, _, _ = block.text.partition("\n")
    start = end = 0
    for line in block.text.splitlines(keepends=True):
        if end > start and end + len(line) - start > most:
            yield _Piece(
                block.text[start:end], at + start, at + end, block, head=_again(head, start)
            )
            start = end
        end += len(line)
    yield _Piece(block.text[start:end], at + start, at + end, block, head=_again(head, start))


def _again(head: str, start: int) -> str:
    return f"{head}\n" if start else ""


def _stretches(text: str, most: int) -> Iterator[tuple[int, int]]:
    """Where a text is cut: after sentences, else after words, else anywhere."""
    start = 0
    while len(text) - start > most:
        limit = start + most
        ends = [match.end() for match in _SENTENCE.finditer(text, start, limit)]
        end = next((each for each in reversed(ends) if each - start > most // 3), 0)
        if not end:
            space = text.rfind(" ", start + most // 3, limit)
            end = space + 1 if space > 0 else limit
        yield start, end
        start = end
    yield start, len(text)
