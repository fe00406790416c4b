"""What happened here: people, prompts, generations, feedback, data, runs and models, encrypted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from morphogen.records.records import Records, open

__all__ = ["Records", "open"]


def __getattr__(name: str) -> Any:
    """`Records` and `open`, once asked for: `recording` needs none of their libraries."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from morphogen.records import records

    return getattr(records, name)
