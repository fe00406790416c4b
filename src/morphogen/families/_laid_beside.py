"""Pictures that are said of pictures, laid beside them: a mask, edges, the same picture, coarse.

A network that attends to such a condition would have to find out which of its places belongs to
which of the item's. Laid beside the noisy item, as further channels, each place sees its own
(Saharia et al. 2021, SR3, arXiv:2104.07636; for pictures that control, Zhang et al. 2023,
arXiv:2302.05543).
One more channel says whether it is there at all.

Legend: B items, C channels of a condition, *space the space axes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.conditioning import of_items, present
from morphogen.core.spec import TensorSpec

SMOOTH = {2: "bilinear", 3: "trilinear"}  # by the number of space axes


class LaidBeside:
    """The conditions of `conditions` that are grids as items of `spec` are."""

    def __init__(self, spec: TensorSpec, conditions: Mapping[str, TensorSpec]) -> None:
        self.space = spec.space
        self.grids = {
            name: each
            for name, each in conditions.items()
            if each.kind == spec.kind == "real"
            and len(each.space) == len(spec.space)
            and len(each.space) in SMOOTH
        }

    @property
    def num_channels(self) -> int:
        """How many they take."""
        return sum(spec.channels + 1 for spec in self.grids.values())

    def __call__(self, cond: Mapping[str, Tensor] | None, x: Tensor) -> list[Tensor]:
        """Each of them at the size of items x (B, *), with a channel of ones: (B, C + 1, *space).
        Zeros, where it is not there."""
        return [
            self._laid(name, None if cond is None else cond.get(name), x) for name in self.grids
        ]

    def _laid(self, name: str, value: Tensor | None, x: Tensor) -> Tensor:
        spec = self.grids[name]
        if value is None:
            return x.new_zeros(len(x), spec.channels + 1, *self.space)
        there = present(value, spec)
        value = value.masked_fill(~of_items(there, value), 0).to(x)
        if spec.space != self.space:
            value = F.interpolate(value, self.space, mode=SMOOTH[len(self.space)])
        is_there = of_items(there, x).to(x).expand(-1, 1, *self.space)
        return torch.cat([value, is_there], dim=1)
