"""PDF: the text of each page, its tables whole with the lines above them, headings by their size.

A line is a heading where its letters are larger than those of most of the document. A page that is
a picture is read by tesseract where that is installed (`_scan`).
"""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from morphogen.core.errors import DataError
from morphogen.systems.knowledge.formats import Parts, _scan, library
from morphogen.systems.knowledge.formats._text import rows_as_text
from morphogen.systems.knowledge.passage import Block

SUFFIXES = (".pdf",)
LARGER = 1.15  # times the size of most letters: a heading
LONGEST_HEADING = 120  # characters
GAP = 1.6  # times the height of a line, between two lines: a new paragraph
_CAPTION = re.compile(r"^(table|tab\.|figure|fig\.|tabelle|abbildung)\s*\d", re.IGNORECASE)


def parts(data: bytes, place: str) -> Parts:
    """Raises `DataError` for a file that asks for a password, and for scans that nothing reads."""
    plumber = library("pdfplumber")
    try:
        opened = plumber.open(io.BytesIO(data))
    except Exception as error:
        if "password" in repr(error).lower():  # of pdfminer's error, in one of pdfplumber's
            raise DataError(
                "it is locked with a password", where=place,
                hint="save a copy without one: qpdf --decrypt --password=... IN OUT",
            ) from error  # fmt: skip
        raise
    with opened:
        lines = [_lines(page) for page in opened.pages]
        scans = [i for i, page in enumerate(opened.pages) if not lines[i] and page.images]
        if scans and not any(lines) and not _scan.can_read():
            raise DataError(
                "its pages are scans: pictures of text", where=place, found=f"{len(scans)} pages",
                hint="apt install tesseract-ocr, which reads them; then the same command",
            )  # fmt: skip
        for i in scans if _scan.can_read() else ():
            lines[i] = _as_lines(_scan.lines_of(opened.pages[i], place))
        sizes = Counter(round(s, 1) for page in lines for s, text, *_ in page if s for _ in text)
        usual = sizes.most_common(1)[0][0] if sizes else 0.0
        tables = [_tables(page) for page in opened.pages]
        facts: dict[str, Any] = {
            str(k).lower(): str(v) for k, v in (opened.metadata or {}).items() if v
        }
    title = facts.get("title", "")
    facts["pages"] = len(lines)
    if scans:
        facts["scans"] = len(scans)
    return title, list(_blocks(lines, tables, usual)), facts


Line = tuple[float, str, float, float]  # size of letters, text, top, bottom


def _lines(page: Any) -> list[Line]:
    found = []
    for line in page.extract_text_lines(return_chars=True):
        sizes = Counter(round(char["size"], 1) for char in line["chars"])
        found.append((sizes.most_common(1)[0][0], line["text"], line["top"], line["bottom"]))
    return found


def _as_lines(said: list[str]) -> list[Line]:
    """Lines of a scan: of no size, one below the other, paragraphs apart."""
    placed = ((text.strip(), 2.0 * i) for i, text in enumerate(said))
    return [(0.0, text, top, top + 1) for text, top in placed if text]


def _tables(page: Any) -> list[tuple[float, float, str]]:
    """(top, bottom, text) of each table that is ruled."""
    return [(t.bbox[1], t.bbox[3], rows_as_text(t.extract())) for t in page.find_tables()]


def _blocks(
    pages: list[list[Line]], tables: list[list[tuple[float, float, str]]], usual: float
) -> Iterator[Block]:
    heading: list[tuple[float, str]] = []
    for number, (lines, there) in enumerate(zip(pages, tables, strict=True), 1):
        waiting, text = list(there), list[str]()
        last = math.inf  # where the line before ended
        for size, said, top, bottom in lines:
            is_heading = size > LARGER * usual and len(said) <= LONGEST_HEADING
            at_table = bool(waiting) and top > waiting[0][0]
            if is_heading or at_table or _CAPTION.match(said) or top - last > GAP * (bottom - top):
                yield _block(text, heading, number)
                text = []
            if at_table:
                yield Block(waiting.pop(0)[2], _names(heading), number, "table")
            if any(low <= top <= high for low, high, _ in there):
                continue  # its lines are in its cells
            last = bottom
            if is_heading:
                heading = [each for each in heading if each[0] > size] + [(size, said)]
            else:
                text.append(said)
        yield _block(text, heading, number)
        for *_, table in waiting:
            yield Block(table, _names(heading), number, "table")


def _block(lines: list[str], heading: list[tuple[float, str]], page: int) -> Block:
    """Lines as one block; those of a caption belong to what comes next."""
    is_caption = bool(lines) and _CAPTION.match(lines[0]) is not None
    return Block("\n".join(lines), _names(heading), page, "caption" if is_caption else "text")


def _names(heading: list[tuple[float, str]]) -> tuple[str, ...]:
    return tuple(name for _, name in heading)
