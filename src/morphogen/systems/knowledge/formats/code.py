"""Source code: what stands between empty lines at the outermost level, under its language."""

from __future__ import annotations

from collections.abc import Iterator

from morphogen.modalities.code.languages import SUFFIXES as LANGUAGES
from morphogen.systems.knowledge.formats import Parts, suffix_of
from morphogen.systems.knowledge.formats._text import text_of
from morphogen.systems.knowledge.passage import Block

SUFFIXES = tuple(LANGUAGES)


def parts(data: bytes, place: str) -> Parts:
    """A block ends where a line begins at the margin after an empty one."""
    return "", _blocks(text_of(data)), {"language": LANGUAGES[suffix_of(place)]}


def _blocks(text: str) -> Iterator[Block]:
    block: list[str] = []
    for line in text.split("\n"):
        at_margin = bool(line) and not line[0].isspace() and line[0] not in "})]"
        if block and at_margin and not block[-1].strip():
            yield _block(block)
            block = []
        block.append(line)
    yield _block(block)


def _block(lines: list[str]) -> Block:
    name = next((line.strip() for line in lines if line.strip()), "")
    return Block("\n".join(lines).strip("\n"), (name[:80],), kind="code")
