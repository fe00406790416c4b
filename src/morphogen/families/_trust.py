r"""How much of what a network adds to a linear answer holds for items that it has not learned from.

    g(t) = argmin_g sum |y - y_linear - g d|^2 = sum d (y - y_linear) / sum d^2,    0 <= g <= 1

with what was asked for y and what the network adds d, over items held back, at each of some times
and in a straight line between them (shrinkage as in stacking: Wolpert 1992, Breiman 1996). Windows
of a series overlap, so that a few times through a year of them are enough to know their noise by
heart: then g falls to 0 and the linear answer, which has few numbers to learn, stands alone. Of
items that were learned from, g is 1.

Legend: N items, K times.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

TIMES = 9  # K, from data to noise
EDGE = 1e-3  # from either end, that is asked in its place
LEAST = 100  # items that tell it


class Trust(nn.Module):
    """g(t). Before `fit` it is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.shares: Tensor
        self.register_buffer("shares", torch.ones(TIMES))

    def forward(self, t: Tensor) -> Tensor:
        """(B,) -> (B,)."""
        place = t.clamp(0, 1) * (TIMES - 1)
        first = place.floor().long().clamp(max=TIMES - 2)
        return torch.lerp(self.shares[first], self.shares[first + 1], place - first)

    @torch.no_grad()
    def fit(self, tried: Callable[[Tensor], tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Take g from what `tried` gives at a time (): d and y - y_linear, (N, *) each."""
        self.shares.fill_(1.0)
        found = []
        for t in torch.linspace(EDGE, 1 - EDGE, TIMES).to(self.shares):
            added, lacking = tried(t)
            found.append((added * lacking).sum() / added.square().sum().clamp(min=1e-12))
        self.shares.copy_(torch.stack(found).clamp(0, 1))
        return {"trust": float(self.shares.mean())}
