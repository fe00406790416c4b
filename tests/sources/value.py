"""A few items that are numbers."""

from __future__ import annotations

from morphogen.core.codec import Item


def items() -> list[Item]:
    """Prices, one of them as a text."""
    return [Item(price, f"row {i}") for i, price in enumerate((1.5, 20, "7", 3.25))]
