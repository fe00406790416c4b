"""Many items looked at all together, where one by one they say little: rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ShowsTogether(Protocol):
    """Optional for a codec: it lays what a model drew over the data."""

    def together(self, real: Sequence[Any], made: Sequence[Any]) -> str:
        """Raw values of the data and of a model -> HTML."""
