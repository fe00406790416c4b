"""Named points on a plane, as a drawing."""

from __future__ import annotations

import html
from collections.abc import Sequence

from torch import Tensor

LABELLED = 60  # points whose names are written beside them


def scatter(names: Sequence[str], positions: Tensor, size: int = 800) -> str:
    """An SVG of points at `positions` (N, 2), each with its name as a title; the first few are
    labelled."""
    low, high = positions.min(0).values, positions.max(0).values
    place = (positions - low) / (high - low).clamp(min=1e-12) * (size - 80) + 40
    points = []
    for number, (name, (x, y)) in enumerate(zip(names, place.tolist(), strict=True)):
        told = html.escape(name)
        label = f'<text x="{x + 6:.1f}" y="{size - y + 3:.1f}">{told}</text>'
        spot = f'<circle cx="{x:.1f}" cy="{size - y:.1f}" r="4"><title>{told}</title></circle>'
        points.append(spot + label * (number < LABELLED))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" '
        'font-family="sans-serif" font-size="9" fill="#357">' + "".join(points) + "</svg>\n"
    )
