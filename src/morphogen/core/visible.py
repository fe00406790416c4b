"""Texts from outside as they may be shown: names of files, classes and columns may hold anything.

A control character in a name would move the cursor, colour, or rewrite what a terminal shows, and a
mark that turns the direction of writing would show another name than there is. They are shown as
what Python writes for them: "\\x1b[31m". What HTML or Markdown would take for its own is escaped.
"""

from __future__ import annotations

import html
import re
import shlex

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
MARKDOWN = re.compile(r"([\\`*\[\]|])")


def visible(text: object) -> str:
    """Text in which nothing is hidden; line ends and tabs stay."""
    return HIDDEN.sub(lambda found: found[0].encode("unicode-escape").decode(), str(text))


def in_line(text: object) -> str:
    """Visible text on one line."""
    return " ".join(visible(text).split())


def shortened(text: str, most: int) -> str:
    """Text of at most so many characters; where some are left out, the last one says so."""
    return text if len(text) <= most else text[: most - 1] + "\u2026"


def in_html(text: object) -> str:
    """Text as a part of a page."""
    return html.escape(visible(text))


def in_shell(text: object) -> str:
    """Text as one word of a command that a person may type."""
    return shlex.quote(str(text))


def in_markdown(text: object) -> str:
    """Text as a part of a line of Markdown, which may itself hold HTML; code stays code."""
    if isinstance(text, Code):
        return text
    return html.escape(MARKDOWN.sub(r"\\\1", in_line(text)), quote=False)


class Code(str):
    """A code span of Markdown, in which nothing else is Markdown or HTML."""

    __slots__ = ()


def as_code(text: object) -> Code:
    """Text as a code span, also in a cell of a table."""
    inside = in_line(text).replace("`", "'").replace("|", "\\|")
    return Code(f"`{inside}`")
