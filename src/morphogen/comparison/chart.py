"""Scores with their intervals, one row each, as a drawing within a page.

Scores that are all positive stand on a logarithmic axis: twice as far is the same length anywhere.
It takes its colours from the page, so that it is read in the light and in the dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from morphogen.core.visible import in_html

WIDTH, ROW, TOP = 640, 26, 8  # units of the drawing
LEFT, RIGHT = 190, 90  # room for names and for numbers
ROUND = (1, 2, 5)  # what a tick is, times a power of ten
MOST_TICKS = 7


@dataclass(frozen=True)
class Bar:
    """One row: a name, a value, and where it may lie."""

    name: str
    value: float
    low: float
    high: float


def chart(bars: Sequence[Bar], what: str) -> str:
    """The rows in the order given, as SVG; `what` is said to those who do not see it."""
    log = all(bar.low > 0 and bar.value > 0 for bar in bars)
    scale = math.log if log else float
    low, high = (min(bar.low for bar in bars), max(bar.high for bar in bars))
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - 1, high + 1)

    def at(value: float) -> float:
        share = (scale(value) - scale(low)) / (scale(high) - scale(low))
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    bottom = TOP + ROW * len(bars)
    parts = []
    for tick in _ticks(low, high, log=log):
        x = f"{at(tick):.1f}"
        parts.append(f'<line class="tick" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for place, bar in enumerate(bars):
        y = TOP + ROW * (place + 0.5)
        ends = f'x1="{at(bar.low):.1f}" x2="{at(bar.high):.1f}" y1="{y}" y2="{y}"'
        parts += [
            f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{in_html(bar.name)}</text>',
            f'<line class="range" {ends}/>',
            f'<circle cx="{at(bar.value):.1f}" cy="{y}" r="5"/>',
            f'<text x="{WIDTH - RIGHT + 16}" y="{y + 4}">{bar.value:.3g}</text>',
        ]
    said = ", ".join(f"{bar.name} {bar.value:.3g}" for bar in bars)
    return (
        f'<svg class="chart" role="img" viewBox="0 0 {WIDTH} {bottom + 24}">'
        f"<title>{in_html(what)}: {in_html(said)}</title>{''.join(parts)}</svg>"
    )


def _ticks(low: float, high: float, *, log: bool) -> list[float]:
    """Round numbers within the range, few enough to be read."""
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        every = [digit * 10.0**power for power in powers for digit in ROUND]
        within = [tick for tick in every if low <= tick <= high]
        if len(within) > MOST_TICKS:
            within = [tick for tick in within if math.log10(tick).is_integer()]
        return within[:: max(1, math.ceil(len(within) / MOST_TICKS))]
    step = 10.0 ** math.floor(math.log10((high - low) / 3))
    step *= next((digit for digit in ROUND if (high - low) / (digit * step) <= MOST_TICKS), 10)
    first = math.ceil(low / step)
    return [step * number for number in range(first, math.floor(high / step) + 1)]
