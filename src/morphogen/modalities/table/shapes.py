"""What rows look like all together: each column as the data has it and as a model draws it.

One small picture a column, as SVG: of numbers the share in each of some equal ranges, of everything
else the share of its most frequent values. Bars are the data's, the line or the thin bar beside
them what was drawn.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from morphogen.core.visible import shortened
from morphogen.modalities.table.page import BOX, is_number, written

WIDTH, HEIGHT, LEFT, TOP = 280, 156, 96, 30  # of a picture; of what stands beside and above bars
BINS = 20  # of numbers,
REACH = (0.005, 0.995)  # between these quantiles of the data; what lies beyond is at the edges
NAMES = 8  # values of a column that are told apart
MOST = 24  # columns that are drawn
LETTERS = 13  # of a name of a value
REAL, MADE = "#b9c2cf", "#1f5fbf"
GRID = (
    "display:grid;gap:.8rem;padding:.8rem;"
    "grid-template-columns:repeat(auto-fill,minmax(min(15rem,100%),1fr))"
)


def shapes(real: Sequence[Mapping[str, Any]], made: Sequence[Mapping[str, Any]]) -> str:
    """A picture for each column of two tables, as HTML."""
    names = list(dict.fromkeys(name for row in real for name in row))
    drawn = "".join(_column(name, *(_cells(rows, name) for rows in (real, made)))
                    for name in names[:MOST])  # fmt: skip
    more = f"; {len(names) - MOST} more columns are not drawn" if len(names) > MOST else ""
    key = (
        f'<span style="color:{REAL}">\u25a0</span> held-out data &nbsp; '
        f'<span style="color:{MADE}">\u25a0</span> generated{more}'
    )
    return f'<p class="note">{key}</p><div style="{BOX};{GRID}">{drawn}</div>'


def _cells(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [row.get(name) for row in rows]


def _column(name: str, real: list[Any], made: list[Any]) -> str:
    empty = [sum(cell is None for cell in cells) / max(len(cells), 1) for cells in (real, made)]
    told = f"; missing {empty[0]:.1%}, drawn {empty[1]:.1%}" if max(empty) else ""
    bars = (_histogram if is_number(real + made) else _bars)(real, made)
    title = html.escape(shortened(name, 2 * LETTERS))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(name)}{told}" '
        f'style="width:100%;font:11px system-ui,sans-serif" fill="#1c2733">'
        f'<title>{html.escape(name)}{told}</title><text x="0" y="13" font-weight="600">{title}'
        f'</text><text x="{WIDTH}" y="13" text-anchor="end" fill="#66717f">'
        f"{told.removeprefix('; ')}</text>{bars}</svg>"
    )


def _histogram(real: list[Any], made: list[Any]) -> str:
    """Bars for the data, a line of steps for what was drawn."""
    values = [np.array([cell for cell in cells if cell is not None], float)
              for cells in (real, made)]  # fmt: skip
    known = values[0] if len(values[0]) else values[1]
    low, high = np.quantile(known, REACH)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    shares = [
        np.histogram(each.clip(edges[0], edges[-1]), edges)[0] / max(len(each), 1)
        for each in values
    ]
    room, step = HEIGHT - TOP - 16, WIDTH / BINS
    tall = room / max(*map(np.max, shares), 1e-9)
    bottom = TOP + room
    bars = "".join(
        f'<rect x="{i * step + 0.5:.1f}" y="{bottom - share * tall:.1f}" width="{step - 1:.1f}" '
        f'height="{share * tall:.1f}" fill="{REAL}"/>'
        for i, share in enumerate(shares[0])
    )
    line = "".join(
        f"V{bottom - share * tall:.1f}H{(i + 1) * step:.1f}" for i, share in enumerate(shares[1])
    )
    return (
        f'{bars}<path d="M0 {bottom}{line}V{bottom}" fill="none" stroke="{MADE}" '
        f'stroke-width="1.6"/><text x="0" y="{HEIGHT - 3}" fill="#66717f">{_rough(low)}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT - 3}" text-anchor="end" fill="#66717f">{_rough(high)}</text>'
    )


def _bars(real: list[Any], made: list[Any]) -> str:
    """A pair of bars for each of the most frequent values; missing and all others are values."""
    counts = [Counter("missing" if cell is None else written(cell) for cell in cells)
              for cells in (real, made)]  # fmt: skip
    names = [name for name, _ in counts[0].most_common()]
    shown = names[: NAMES if len(names) <= NAMES else NAMES - 1]
    rows = [(name, _share(counts[0], name), _share(counts[1], name)) for name in shown]
    rest = (1 - sum(real for _, real, _ in rows), 1 - sum(made for _, _, made in rows))
    if max(rest) > 1e-9:
        rows.append(("all others", *rest))
    step = min((HEIGHT - TOP) / len(rows), 22.0)
    wide = (WIDTH - LEFT) / max(max(real, made) for _, real, made in rows)
    return "".join(
        f'<text x="{LEFT - 6}" y="{(y := TOP + i * step) + step / 2 + 3:.1f}" text-anchor="end">'
        f"{html.escape(shortened(name, LETTERS))}</text>"
        f'<rect x="{LEFT}" y="{y + 1:.1f}" width="{share * wide:.1f}" '
        f'height="{step * 0.5:.1f}" fill="{REAL}"/>'
        f'<rect x="{LEFT}" y="{y + 1 + step * 0.5:.1f}" width="{drawn * wide:.1f}" '
        f'height="{step * 0.28:.1f}" fill="{MADE}"/>'
        for i, (name, share, drawn) in enumerate(rows)
    )


def _share(counts: Counter[str], name: str) -> float:
    return counts[name] / max(counts.total(), 1)


def _rough(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
