"""Grids that are shown a little changed in training, so that nothing is learned of what may change.

    shift     along each axis of space, up to so many positions, repeating the border
    mirror    the last axis
    hide      one run along each axis, behind the item's mean (Park et al. 2019, SpecAugment)
    raise     all values by one number: spectra that are louder, pictures that are brighter

Legend: B batch, C channels, *space the space axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from morphogen.core.random import rand, randint


@dataclass(frozen=True)
class Variation:
    """How much may change; nothing, unless said."""

    max_shift: int = 0  # positions along each axis
    flip_prob: float = 0.0  # of mirroring
    mask_share: float = 0.0  # of an axis, that a hidden run takes at most
    max_gain: float = 0.0  # number that is added or taken away, at most

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """(B, C, *space) -> the same, each item changed by draws of its own."""
        if self.max_shift or self.flip_prob:
            x = self._moved(x, generator)
        if self.mask_share:
            x = self._masked(x, generator)
        if self.max_gain:
            gain = (2 * rand((len(x), *(1,) * (x.dim() - 1)), generator) - 1) * self.max_gain
            x = x + gain.to(x)
        return x

    def _masked(self, x: Tensor, generator: torch.Generator) -> Tensor:
        mean = x.flatten(1).mean(1).view(-1, *(1,) * (x.dim() - 1))
        for axis, size in enumerate(x.shape[2:], start=2):
            width, place = (rand((len(x), 1), generator) for _ in range(2))
            width = width * self.mask_share * size
            away = torch.arange(size, device=place.device) - place * (size - width)  # (B, size)
            hidden = ((away >= 0) & (away < width)).to(x.device)
            x = torch.where(hidden.view(_along(axis, x)), mean, x)
        return x

    def _moved(self, x: Tensor, generator: torch.Generator) -> Tensor:
        for axis, size in enumerate(x.shape[2:], start=2):
            index = torch.arange(size, device=x.device).expand(len(x), -1)  # (B, size)
            if self.max_shift:
                shift = randint(2 * self.max_shift + 1, (len(x), 1), generator) - self.max_shift
                index = (index + shift.to(x.device)).clamp(0, size - 1)
            if self.flip_prob and axis == x.dim() - 1:
                mirrored = rand((len(x), 1), generator).to(x.device) < self.flip_prob
                index = torch.where(mirrored, size - 1 - index, index)
            x = x.gather(axis, index.reshape(_along(axis, x)).expand(x.shape))
        return x


def _along(axis: int, x: Tensor) -> tuple[int, ...]:
    """The shape of numbers for each item and place along one axis, against x."""
    shape = [len(x), *(1,) * (x.dim() - 1)]
    shape[axis] = x.shape[axis]
    return tuple(shape)
