"""Times and sizes for a person."""

from __future__ import annotations

import re

from morphogen.core.errors import RecipeError


def duration(seconds: float) -> str:
    """90 -> "1m30s"."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def seconds_of(text: str, where: str) -> float:
    """ "90s", "10m", "12h", "7d", "4w" -> seconds. Raises `RecipeError` saying `where` it stood."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\w*\s*", text.lower())
    if match is None:
        raise RecipeError(
            "this is no length of time", found=text, expected="90s, 10m, 12h, 7d or 4w", where=where
        )
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[match[2]]


def size(num_bytes: float) -> str:
    """Bytes for a person."""
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1000
    for unit in ("GB", "TB"):
        if num_bytes < 1000:
            return f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} PB"
