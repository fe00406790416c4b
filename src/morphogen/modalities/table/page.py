"""Rows for people: a table on a page, a .csv file, a few words."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from morphogen.core.storage import write_text
from morphogen.core.visible import shortened

BOX = (
    "overflow-x:auto;border:1px solid #d5dae1;border-radius:6px;background:#fff;color:#1c2733;"
    "font:13px/1.4 system-ui,sans-serif"
)
HEAD = (
    "text-align:{};padding:.4rem .7rem;border-bottom:1px solid #d5dae1;background:#f5f7fa;"
    "font-weight:600;white-space:nowrap"
)
CELL = "text-align:{};padding:.3rem .7rem;border-bottom:1px solid #eef1f5;white-space:nowrap"
MISSING = '<span style="color:#a8b3c2">\u2013</span>'
MOST_CHARACTERS = 60  # of a cell


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with the names of the columns above; numbers on the right, missing cells faint."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    side = {name: "right" if is_number([row.get(name) for row in rows]) else "left"
            for name in names}  # fmt: skip
    head = "".join(
        f'<th style="{HEAD.format(side[name])}">{html.escape(name)}</th>' for name in names
    )
    body = "".join(
        "<tr>"
        + "".join(f'<td style="{CELL.format(side[n])}">{shown(row.get(n))}</td>' for n in names)
        + "</tr>"
        for row in rows
    )
    return (
        f'<div style="{BOX}"><table style="border-collapse:collapse;width:100%;margin:0;'
        f'font-variant-numeric:tabular-nums"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def shown(cell: Any) -> str:
    """A cell as HTML."""
    if cell is None:
        return MISSING
    return html.escape(shortened(written(cell), MOST_CHARACTERS))


def written(cell: Any) -> str:
    """A cell as a file has it; nothing for a missing one."""
    if cell is None:
        return ""
    return f"{cell:.10g}" if isinstance(cell, float) else str(cell)


def is_number(cells: Sequence[Any]) -> bool:
    """Whether all cells that are filled are numbers."""
    filled = [cell for cell in cells if cell is not None]
    return bool(filled) and all(
        isinstance(cell, (int, float)) and not isinstance(cell, bool) for cell in filled
    )


def brief(row: Mapping[str, Any], most: int) -> str:
    """The first cells of a row."""
    text = ", ".join(f"{name} {written(cell) or '?'}" for name, cell in row.items())
    return shortened(text, most)


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """A .csv file with a header."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([[written(row.get(name)) for name in names] for row in rows])
    return write_text(path, stream.getvalue())
