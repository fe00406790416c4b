"""Markdown: blocks with the headings above them; tables and code stay whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from morphogen.systems.knowledge.formats import Parts, library
from morphogen.systems.knowledge.formats._text import text_of
from morphogen.systems.knowledge.passage import Block, Kind

SUFFIXES = (".md", ".markdown", ".mdx")
KINDS: dict[str, Kind] = {"fence": "code", "code_block": "code", "table_open": "table"}


def parts(data: bytes, place: str) -> Parts:
    """The first heading of the first level is the title."""
    text = text_of(data)
    parser = library("markdown_it").MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(text)
    title = next(
        (tokens[i + 1].content for i, t in enumerate(tokens)
         if t.type == "heading_open" and t.tag == "h1"), ""
    )  # fmt: skip
    return title, _blocks(tokens, text.split("\n"), title), {}


def _blocks(tokens: list[Any], lines: list[str], title: str) -> Iterator[Block]:
    """Every block of the outermost level; what a list or a quote holds stays in one."""
    heading: list[tuple[int, str]] = []
    for place, token in enumerate(tokens):
        if token.level or token.map is None or token.type.endswith("_close"):
            continue
        if token.type == "heading_open":
            level, name = int(token.tag[1:]), tokens[place + 1].content
            heading = [each for each in heading if each[0] < level]
            if name != title:
                heading.append((level, name))
            continue
        first, last = token.map
        body = "\n".join(lines[first:last]).strip("\n")
        above = tuple(name for _, name in heading)
        yield Block(body, above, kind=KINDS.get(token.type, "text"))
