"""Web pages: headings, paragraphs, lists, tables with captions; menus and scripts left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from morphogen.systems.knowledge.formats import Parts, library
from morphogen.systems.knowledge.formats._text import rows_as_text, text_of
from morphogen.systems.knowledge.passage import Block

SUFFIXES = (".html", ".htm", ".xhtml")
NO_CONTENT = ["script", "style", "nav", "footer", "noscript", "template", "svg", "form", "aside"]
HEADINGS = {f"h{level}": level for level in range(1, 7)}
WHOLE = {"p", "li", "blockquote", "figcaption", "dt", "dd", "caption"}


def parts(data: bytes, place: str) -> Parts:
    """The title is that of the page, else its first heading."""
    tree = library("selectolax.lexbor").LexborHTMLParser(text_of(data))
    tree.strip_tags(NO_CONTENT)
    first = tree.css_first("title") or tree.css_first("h1")
    title = " ".join(first.text().split()) if first is not None else ""
    return title, _blocks(tree.body, title), {}


def _blocks(body: Any, title: str) -> Iterator[Block]:
    heading: list[tuple[int, str]] = []
    ends_at = None  # a table's own nodes are in its block
    for node in body.traverse(include_text=False) if body is not None else ():
        if ends_at is not None and _within(node, ends_at):
            continue
        ends_at = None
        above = tuple(name for _, name in heading)
        if node.tag in HEADINGS:
            level, name = HEADINGS[node.tag], _said(node)
            heading = [each for each in heading if each[0] < level]
            if name and name != title:
                heading.append((level, name))
        elif node.tag == "table":
            ends_at = node
            caption = node.css_first("caption")
            rows = [[_said(cell) for cell in row.css("th, td")] for row in node.css("tr")]
            if caption is not None:
                yield Block(_said(caption), above, kind="caption")
            yield Block(rows_as_text(rows), above, kind="table")
        elif node.tag == "pre":
            ends_at = node
            yield Block(node.text().strip("\n"), above, kind="code")
        elif node.tag in WHOLE:
            ends_at = node
            yield Block(_said(node), above, kind="caption" if "caption" in node.tag else "text")


def _within(node: Any, other: Any) -> bool:
    while node is not None:
        if node.mem_id == other.mem_id:
            return True
        node = node.parent
    return False


def _said(node: Any) -> str:
    return " ".join(node.text(separator=" ").split())
