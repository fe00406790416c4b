r"""The grain of data: values that it takes exactly, far more often than a continuous model draws.

Half of the values of a picture of clothes are exactly 0. A model of real numbers puts them near 0,
and rounding to levels leaves a third of them there: backgrounds that are never quite black. So
after training, with items that it drew beside training items, the values of either are ranked, and
what is drawn later is given the level that data has at the same rank:

    x -> F_data^{-1}(F_drawn(x)),      one threshold between every two levels, by channel.

It keeps the order of values, costs a search in a table, and gives exact values their share of the
data without a word on where in an item they stand. Data in which no level is common has no grain
and is left alone.

Legend: B batch, C channels, V levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from morphogen.core.spec import Spec, TensorSpec

COMMON = 0.05  # share of a level in a channel's values, for data to have a grain
MOST_LEVELS = 256
MOST_RANKED = 2_000_000  # values of a channel whose ranks are found


class Grain(nn.Module):
    """Thresholds (C, V - 1) between levels; none before `fit`, and x stays as it is."""

    thresholds: Tensor
    fitted: Tensor  # (C,) whether a channel has a grain

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("thresholds", torch.zeros(spec.channels, (spec.levels or 1) - 1))
        self.register_buffer("fitted", torch.zeros(spec.channels, dtype=torch.bool))

    @classmethod
    def of(cls, spec: Spec) -> Grain | None:
        """A grain to be fitted to items of a spec; None for those that have no levels, or just two.

        Latents, tokens and parts have none; with very many levels none is common.
        """
        if isinstance(spec, TensorSpec) and spec.kind == "real" and spec.levels:
            return cls(spec) if 2 < spec.levels <= MOST_LEVELS else None
        return None

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """A model that was saved before its family had a grain has none that is fitted."""
        own = {prefix + name: tensor for name, tensor in self.named_buffers()}
        super()._load_from_state_dict({**own, **state}, prefix, *rest)

    def clear(self) -> None:
        """Leave items as they are, until fitted."""
        self.fitted.zero_()

    @torch.no_grad()
    def fit(self, data: Tensor, drawn: Tensor) -> dict[str, float]:
        """Rank the values of training items (B, C, *) and of drawn ones; numbers to log."""
        levels, gap = self.spec.levels or 1, 0.0
        for channel in range(self.spec.channels):
            level = self.spec.quantise(data[:, channel]).flatten()
            counts = torch.bincount(level, minlength=levels).double()
            shares = counts / counts.sum()
            self.fitted[channel] = bool(shares.max() >= COMMON)
            if not self.fitted[channel]:
                continue
            values = drawn[:, channel].flatten()
            values = values[:: max(1, len(values) // MOST_RANKED)].sort().values
            rank = (shares.cumsum(0)[:-1] * len(values)).long().clamp(max=len(values) - 1)
            self.thresholds[channel] = values[rank].to(self.thresholds)
            common = int(shares.argmax())
            own = self.spec.quantise(values) == common
            gap = max(gap, float(shares[common]) - float(own.float().mean()))
        return {"exact_share_missing": gap} if self.fitted.any() else {}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *) -> the same, with values at the levels that their rank has in the data."""
        if not self.fitted.any():
            return x
        found = [
            self._at_levels(x[:, channel], self.thresholds[channel]) if has_grain else x[:, channel]
            for channel, has_grain in enumerate(self.fitted.tolist())
        ]
        return torch.stack(found, 1)

    def _at_levels(self, values: Tensor, thresholds: Tensor) -> Tensor:
        level = torch.bucketize(values.contiguous(), thresholds)
        return self.spec.dequantise(level).to(values)
