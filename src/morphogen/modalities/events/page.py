"""Histories for people: rows of chips on a page, a .csv file, a few words."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path

from morphogen.core.storage import write_text
from morphogen.core.visible import shortened
from morphogen.modalities.events.history import Event, History
from morphogen.modalities.series.window import written

ROW = (
    "border:1px solid #d5dae1;border-radius:6px;background:#fff;color:#1c2733;padding:.5rem .6rem;"
    "min-width:0;font:13px/1.4 system-ui,sans-serif"
)
CHIP = (
    "display:inline-block;margin:.12rem .2rem .12rem 0;padding:.05rem .5rem;border-radius:999px;"
    "background:#eef2f8;overflow-wrap:anywhere"
)
FAINT = "color:#66707d;font-size:11px"
SHOWN = 40  # events of a history, the newest


def rows(histories: Sequence[History], columns: int | None) -> str:
    """Each history as a row of its events, the newest on the right."""
    cells = "".join(f'<div style="{ROW}">{_row(each)}</div>' for each in histories)
    style = f"display:grid;gap:.5rem;grid-template-columns:repeat({columns or 1},minmax(0,1fr))"
    return f'<div style="{style}">{cells}</div>'


def _row(history: History) -> str:
    left = len(history) - SHOWN
    before = f'<span style="{FAINT}">{left:,} before, </span>' if left > 0 else ""
    chips = "".join(_chip(event) for event in history.events[-SHOWN:])
    until = ""
    if history.stamps is not None and history.dated and len(history):
        until = f' <span style="{FAINT}">until {written(float(history.stamps[-1]), True)}</span>'
    whose = f"<b>{html.escape(history.user)}</b>{until}<br>" if history.user or until else ""
    return whose + before + (chips or f'<span style="{FAINT}">no events</span>')


def _chip(event: Event) -> str:
    kind = f'<span style="{FAINT}">{html.escape(event.kind)} </span>' if event.kind else ""
    return f'<span style="{CHIP}">{kind}{html.escape(event.item)}</span>'


def brief(history: History, most: int) -> str:
    """Whose it is, and the first events."""
    return shortened(str(history) or "no events", most)


def write_rows(histories: Sequence[History], path: Path) -> Path:
    """A .csv file with a row for each event, which can be read again: of those that have no time,
    their numbers."""
    several_kinds = any(event.kind for each in histories for event in each.events)
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["user", "item", *(["event"] * several_kinds), "time"])
    for number, history in enumerate(histories, 1):
        stamps = history.stamps
        for place, event in enumerate(history.events):
            when = f"{place}"
            if stamps is not None and len(stamps) == len(history):
                when = written(float(stamps[place]), history.dated)
            kind = [event.kind] * several_kinds
            writer.writerow([history.user or f"user {number}", event.item, *kind, when])
    return write_text(path, stream.getvalue())
