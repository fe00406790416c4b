r"""How wide draws are about what is expected, so that a band of them holds the share that it names.

    e = max(u / b_high, u / b_low),     s = the (1 + 1 / N) 0.8 quantile of e over items held back

with u what an item leaves of what is expected of it (`_frame`), value by value, and b the ends of
the band of 80 % of what draws leave (split-conformal, normalised: Papadopoulos et al. 2008; Lei et
al. 2018). Draws are made s times as wide: u -> s u. Truth has heavier tails than draws and is more
often near to what is expected, so that draws that vary as much as it does have bands that hold too
much. Neighbouring values, those of steps before and after, tell of each other; of items that the
model learned from, s would be that of what it knows by heart.

Legend: N items, M draws, L steps, * the shape of an item, (*, L).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from morphogen.core.bands import quantile
from morphogen.core.batch import Batch
from morphogen.core.conditioning import present
from morphogen.core.gaussian_path import wide

LEVEL = 0.8
LEAST, MOST = 100, 4000  # items, and draws, that tell it
SHARE = 4  # one part in so many of the steps tell of one another
LIMITS = 0.5, 2.0  # of s


class Bands(nn.Module):
    """s. Before `fit` it is 1."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(shape))

    def forward(self, u: Tensor) -> Tensor:
        """What draws leave (B, *), as wide as the truth is."""
        return self.scale * u

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        state_dict.setdefault(f"{prefix}scale", torch.ones_like(self.scale))  # of older weights
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @torch.no_grad()
    def fit(self, left: Tensor, drawn: Tensor) -> dict[str, float]:
        """Take s from what items (N, *) and draws (M, *) that were not yet widened leave."""
        if min(len(left), len(drawn)) < LEAST:
            return {}
        tail = (1 - LEVEL) / 2
        low, high = (_near(drawn, share) for share in (tail, 1 - tail))
        beyond = torch.maximum(left / high.clamp(min=1e-9), left / low.clamp(max=-1e-9))
        share = min(LEVEL * (1 + 1 / len(left)), 1.0)
        self.scale.copy_(_near(beyond, share).clamp(*LIMITS))
        return {"band_scale": float(self.scale.mean())}


class Banded:
    """What a family does with them: one whose items have a frame by the condition `alike`."""

    def settle_bands(
        self: Any, batch: Batch, worth: int, generator: torch.Generator
    ) -> dict[str, float]:
        """See by items how wide draws are to be."""
        num = min(len(batch), MOST, 3 * worth // self.draw_passes)
        if num < LEAST:
            return {}
        drawn = Batch(self.drawn_like(batch, num, generator), cond=batch.rows(slice(num)).cond)
        found: dict[str, float] = self.bands.fit(self.left(batch).x, self.left(drawn).x)
        return found

    def spread(self: Any, x: Tensor, cond: Mapping[str, Tensor] | None) -> Tensor:
        """Draws about what is expected, as wide as the truth was seen to be."""
        if self.alike is None or cond is None or self.alike not in cond:
            return x
        frame = self.frame(cond, x)
        there = present(cond[self.alike], self.conditions[self.alike])
        return torch.where(wide(there, x).bool(), frame.outside(self.bands(frame.inside(x))), x)


def _near(x: Tensor, share: float) -> Tensor:
    """The value that a share of x (N, *) lies below: (*,), averaged over places that are near."""
    found = quantile(x[None], share)[0]  # (*,)
    flat = found.reshape(-1, 1, found.shape[-1])
    half = found.shape[-1] // SHARE // 2
    kernel = torch.ones(1, 1, 2 * half + 1).to(flat) / (2 * half + 1)
    padded = functional.pad(flat, (half, half), mode="replicate")
    return functional.conv1d(padded, kernel).reshape(found.shape)
