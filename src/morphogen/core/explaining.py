r"""What a model says of each token of a text, and what it looked at: what is told, and by whom.

Row i of a square table belongs to token i, column j to what was read at place j: column 0 is the
start, column j the token j - 1, so that only the columns up to i say something.

Legend: n tokens of a text, N layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class Explanation:
    """Of a text, token by token."""

    log_prob: Tensor  # (n,) log p(x_i | x_<i), in nats
    rank: Tensor  # (n,) of the token among all by what the model says; 1: it was the most probable
    alternatives: list[list[tuple[int, float]]]  # the most probable tokens, with their probability
    attention: Tensor  # (N, n, n) that each layer pays, the mean over its heads; rows sum to 1
    rollout: Tensor  # (n, n) attention through all layers (Abnar & Zuidema 2020); rows sum to 1
    attribution: Tensor  # (n, n) gradient of log_prob by what was read, times it


@runtime_checkable
class CanExplain(Protocol):
    """Says what it looked at."""

    def explain(
        self,
        tokens: Tensor,
        *,
        cond: Mapping[str, Tensor] | None = None,
        num_alternatives: int = 5,
    ) -> Explanation:
        """Of the tokens of one text (n,), n >= 1, given conditions (1, ...)."""
        ...


@runtime_checkable
class ShowsAttention(Protocol):
    """A backbone over tokens that shows how it came to what it tells."""

    def seen(
        self, x: Tensor, cond: Tensor | None = None, context: object = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N) tokens -> what enters the first layer (B, N, D), a leaf to differentiate by; the
        logits (B, N, V); and what each layer and head looked at, (layers, B, H, N, N)."""
        ...
