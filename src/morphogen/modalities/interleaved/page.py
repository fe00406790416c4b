"""Items of several parts for people: a card for each; and as rows that name files beside them."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from morphogen.core.storage import write_text

STYLE = (
    "article{border:1px solid #8884;border-radius:.4rem;padding:.5rem}article p{margin:.2rem 0}"
    "article h4{margin:.2rem 0;font:600 .75rem system-ui;opacity:.6}"
)
Show = Callable[[str, Any], str]  # the name of a part and its value -> a piece of a page
WriteFile = Callable[[str, Any, Path], Path]  # the name, the value, a path without suffix


def cards(values: Sequence[Mapping[str, Any]], show: Show, columns: int | None = None) -> str:
    """Each item as a card that shows its parts under their names."""
    many = "repeat(auto-fill,minmax(min(11rem,100%),1fr))"
    across = f"repeat({columns},minmax(0,1fr))" if columns else many
    drawn = "".join(f"<article>{_parts(value, show)}</article>" for value in values)
    return (
        f"<style>{STYLE}</style>"
        f'<div style="display:grid;gap:.75rem;grid-template-columns:{across}">{drawn}</div>'
    )


def _parts(value: Mapping[str, Any], show: Show) -> str:
    return "".join(f"<h4>{html.escape(name)}</h4>{show(name, own)}" for name, own in value.items())


def write_rows(values: Sequence[Mapping[str, Any]], path: Path, write_file: WriteFile) -> Path:
    """JSON lines: texts as they are, and the names of the files of what is none."""
    lines = []
    for number, value in enumerate(values):
        row = {}
        for name, own in value.items():
            if isinstance(own, str):
                row[name] = own
            else:
                stem = path.with_name(f"{path.stem}-{number:04d}-{name}")
                row[name] = write_file(name, own, stem).name
        lines.append(json.dumps(row))
    return write_text(path, "\n".join(lines) + "\n")
