"""Items that may be changed without changing what they are: a piece of music in another key."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class CanAugment(Protocol):
    """Optional for a codec: training sees its items varied, each step anew."""

    def augmented(self, x: Any, shares: Tensor) -> Any:
        """Encoded training items (B, *shape), each as a number of [0, 1) drawn for it says (B,)."""
