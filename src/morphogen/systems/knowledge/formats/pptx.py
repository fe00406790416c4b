"""Presentations: a slide is a page; its title is the heading of what stands on it; notes too."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from morphogen.systems.knowledge.formats import Parts, library
from morphogen.systems.knowledge.formats._text import rows_as_text
from morphogen.systems.knowledge.passage import Block

SUFFIXES = (".pptx",)


def parts(data: bytes, place: str) -> Parts:
    """The title is the document's own, else that of the first slide."""
    shown = library("pptx").Presentation(io.BytesIO(data))
    slides = list(shown.slides)
    first = _title(slides[0]) if slides else ""
    facts = {"author": shown.core_properties.author or "", "pages": len(slides)}
    return shown.core_properties.title or first, _blocks(slides), facts


def _blocks(slides: list[Any]) -> Iterator[Block]:
    for page, slide in enumerate(slides, 1):
        title = _title(slide)
        heading = (title,) if title else ()
        if title:
            yield Block(title, heading, page)
        for shape in slide.shapes:
            if shape.has_text_frame and shape != slide.shapes.title:
                yield Block(shape.text_frame.text, heading, page)
            elif getattr(shape, "has_table", False):
                rows = ([cell.text for cell in row.cells] for row in shape.table.rows)
                yield Block(rows_as_text(rows), heading, page, "table")
        if slide.has_notes_slide:
            yield Block(slide.notes_slide.notes_text_frame.text, (*heading, "notes"), page)


def _title(slide: Any) -> str:
    shape = slide.shapes.title
    return shape.text_frame.text.strip() if shape is not None else ""
