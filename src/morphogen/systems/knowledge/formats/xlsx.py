"""Workbooks: each sheet a table, read row by row."""

from __future__ import annotations

import io

from morphogen.systems.knowledge.formats import Parts, library
from morphogen.systems.knowledge.formats._text import rows_as_text
from morphogen.systems.knowledge.passage import Block

SUFFIXES = (".xlsx", ".xlsm")


def parts(data: bytes, place: str) -> Parts:
    """Values as they were last computed; a sheet is a page."""
    book = library("openpyxl").load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    blocks = [
        Block(rows_as_text(sheet.iter_rows(values_only=True)), (sheet.title,), page, "table")
        for page, sheet in enumerate(book.worksheets, 1)
    ]
    title = book.properties.title or ""
    book.close()
    return title, blocks, {"sheets": len(blocks)}
