"""A few items that are categories."""

from __future__ import annotations

from morphogen.core.codec import Item


def items() -> list[Item]:
    """Three names, one of them twice."""
    return [Item(name, f"row {i}") for i, name in enumerate(("boot", "bag", "coat", "bag"))]
