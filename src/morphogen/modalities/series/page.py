"""Series for people: a picture of past, values and band as SVG; rows of a .csv file.

Legend: C columns, N steps.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from morphogen.core.storage import write_text
from morphogen.modalities.series.window import Window, written

WIDTH, HEIGHT, EDGE = 360, 120, 8  # of the picture of one column
MOST_PAST = 2  # times the steps of an item, that are drawn of its past
MOST_COLUMNS = 8  # drawn of a window
PAST, NOW, BAND = "#8a95a5", "#1f5fbf", "#1f5fbf"


def pictures(windows: Sequence[Window], columns: int | None = None) -> str:
    """A picture of each window, side by side."""
    cells = "".join(f"<figure style='margin:0'>{picture(window)}</figure>" for window in windows)
    style = (
        "display:grid;gap:.75rem;background:#fff;color:#1c2733;"
        f"grid-template-columns:repeat({columns or 2},minmax(0,1fr))"
    )
    return f'<div style="{style}">{cells}</div>'


def picture(window: Window) -> str:
    """The columns of a window, one below the other: past grey, values blue, the band about them."""
    shown = range(min(len(window.names), MOST_COLUMNS))
    height = HEIGHT * len(shown)
    body = "".join(
        f'<g transform="translate(0 {HEIGHT * place})">{_column(window, place)}</g>'
        for place in shown
    )
    left = len(window.names) - len(shown)
    more = f"; {left:,} more columns" if left else ""
    label = html.escape(f"{window}{more}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{label}" font-family="system-ui,sans-serif" font-size="10" '
        f'style="width:100%;height:auto"><title>{label}</title>{body}</svg>'
    )


def _column(window: Window, row: int) -> str:
    before = np.empty(0)
    if window.past is not None:
        before = window.past.values[row][-MOST_PAST * len(window) :]
    now = window.values[row]
    ends = [each[row] for each in (window.low, window.high) if each is not None]
    every = np.concatenate([before, now, *ends])
    known = every[np.isfinite(every)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    high = high if high > low else low + 1

    def x(step: np.ndarray) -> np.ndarray:
        return EDGE + step / max(len(before) + len(now) - 1, 1) * (WIDTH - 2 * EDGE)

    def y(value: np.ndarray) -> np.ndarray:
        return HEIGHT - EDGE - (value - low) / (high - low) * (HEIGHT - 30)

    steps = x(np.arange(len(before), len(before) + len(now)))
    parts = []
    if ends:
        there = np.concatenate([steps, steps[::-1]])
        edge = _points(there, y(np.concatenate([ends[0], ends[1][::-1]])))
        parts.append(f'<polygon points="{edge}" fill="{BAND}" fill-opacity=".2"/>')
    parts += _lines(x(np.arange(len(before))), y(before), PAST)
    parts += _lines(steps, y(now), NOW)
    name = html.escape(window.names[row])
    band = f", band {window.level:.0%}" if ends else ""
    since = written(float(window.stamps[0]), window.dated) if window.dated else ""
    told = f"{name}: {low:.4g} to {high:.4g}{band}"
    parts.append(f'<text x="{EDGE}" y="12" fill="#1c2733">{told}</text>')
    parts.append(f'<text x="{WIDTH - EDGE}" y="12" text-anchor="end" fill="#66707d">{since}</text>')
    return "".join(parts)


def _lines(x: np.ndarray, y: np.ndarray, colour: str) -> list[str]:
    """Lines through what is known, broken at gaps; a value alone is a point."""
    known = np.isfinite(y)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], known.astype(np.int8), [0]])))
    found = []
    for start, end in edges.reshape(-1, 2):
        if end - start == 1:
            found.append(f'<circle cx="{x[start]:.1f}" cy="{y[start]:.1f}" r="2" fill="{colour}"/>')
            continue
        points = _points(x[start:end], y[start:end])
        found.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
        )
    return found


def _points(x: np.ndarray, y: np.ndarray) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def write_rows(windows: Sequence[Window], path: Path) -> Path:
    """A .csv file in long form: a row for each step, with the ends of the band where there are."""
    several = len(windows) > 1
    banded = any(window.low is not None for window in windows)
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    names = windows[0].names if windows else ()
    ends = [f"{name} {end}" for name in names for end in ("low", "high")] if banded else []
    writer.writerow([*(["series"] * several), "time", *names, *ends])
    for number, window in enumerate(windows):
        whose = [window.series or f"{number}"] if several else []
        for step in range(len(window)):
            cells = [*window.values[:, step]]
            if banded:
                for row in range(len(names)):
                    cells += [
                        np.nan if each is None else each[row, step]
                        for each in (window.low, window.high)
                    ]
            told = ["" if np.isnan(cell) else f"{cell:.10g}" for cell in cells]
            writer.writerow([*whose, window.when(step), *told])
    return write_text(path, stream.getvalue())
