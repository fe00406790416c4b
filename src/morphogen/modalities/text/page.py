"""Texts for people: cards on a page, a plain file, a few words."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from morphogen.core.storage import write_text
from morphogen.core.visible import shortened

END = "\udc00"  # where one text ends and the next begins, within a window of a corpus
STYLE = (
    "margin:0;padding:.7rem .8rem;border:1px solid #d5dae1;border-radius:6px;background:#fff;"
    "color:#1c2733;font:13px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;"
    "white-space:pre-wrap;overflow-wrap:anywhere;tab-size:4;max-height:26rem;overflow:auto"
)
FAINT = '<span style="color:#a8b3c2">{}</span>'
BROKEN = '<span style="background:#fbd9d3;color:#a12b16" title="{}">{}</span>'
MARKED = '<mark style="background:#ffe3a3;color:inherit;border-radius:2px">{}</mark>'
RULE = "\u2500\u2500 {} " + "\u2500" * 40 + "\n"  # between the texts of a file
SIGN = re.compile("[\x00-\x08\x0b-\x1f\x7f\t\n\ud800-\udfff\ufffd]|(?<=[ ]) +| +(?=\n|$)")


Marks = Sequence[tuple[int, int]]  # characters of a text that are marked, in order


def cards(
    texts: Sequence[str], columns: int | None = None, show: Callable[[str], str] | None = None
) -> str:
    """A card for each text, by default as `visible` shows it: lines as they break, white space that
    is easily missed faintly, bytes that are no character marked."""
    return laid_out(list(map(show or visible, texts)), columns)


def laid_out(bodies: Sequence[str], columns: int | None = None) -> str:
    """A card for each piece of HTML."""
    width = columns or min(max(1, len(bodies)), 3)
    style = f"display:grid;gap:.6rem;grid-template-columns:repeat({width},minmax(0,1fr))"
    body = "".join(f'<pre style="{STYLE}">{each}</pre>' for each in bodies)
    return f'<div style="{style}">{body}</div>'


def marked(text: str, marks: Marks) -> str:
    """`visible`, with a ground behind what is marked."""
    parts, last = [], 0
    for start, stop in marks:
        parts += [visible(text[last:start]) if start > last else ""]
        parts += [MARKED.format(visible(text[start:stop]))]
        last = stop
    rest = visible(text[last:]) if last < len(text) or not marks else ""
    return "".join([*parts, rest])


def visible(text: str) -> str:
    """A text as HTML that shows every character of it."""
    if not text:
        return FAINT.format("(nothing)")
    parts, last = [], 0
    for match in SIGN.finditer(text):
        parts += [html.escape(text[last : match.start()]), _sign(match[0])]
        last = match.end()
    return "".join([*parts, html.escape(text[last:])])


def _sign(found: str) -> str:
    """White space and what has no form, as HTML."""
    if found == "\n":
        return FAINT.format("\u21b5") + "\n"
    if found == "\t":
        return FAINT.format("\u2192") + "\t"
    if found[0] == " ":
        return FAINT.format("\u00b7" * len(found))
    if found == END:
        return FAINT.format("\u2500\u2500 end \u2500\u2500") + "\n"
    if "\udc80" <= found <= "\udcff":
        return BROKEN.format(f"byte {ord(found) - 0xDC00:02x}, no UTF-8", "\ufffd")
    if found < " " or found == "\x7f":
        sign = chr(0x2400 + ord(found)) if found < " " else "\u2421"
        return BROKEN.format(f"control character {ord(found):02x}", sign)
    return BROKEN.format("no character", "\ufffd")


def readable(text: str) -> str:
    """A text that every program can open: what is no character as U+FFFD, ends as an empty line."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text.replace(END, "\n\n"))


def brief(text: str, most: int) -> str:
    """The first words, on one line."""
    line = " ".join(readable(text[: 4 * most]).split())
    return shortened(line, most)


def write_texts(texts: Sequence[str], path: Path) -> Path:
    """One file of all texts; a line with a number stands before each where there are several."""
    if len(texts) == 1:
        return write_text(path, readable(texts[0]))
    parts = [RULE.format(number) + readable(text) for number, text in enumerate(texts)]
    return write_text(path, "".join(part.rstrip("\n") + "\n" for part in parts))
