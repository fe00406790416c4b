"""Grids that are shown a little changed in training, so that nothing is learned of what may change.

    shift     along each axis of space, up to so many positions, repeating the border
    mirror    the last axis
    hide      one run along each axis, behind the item's mean (Park et al. 2019, SpecAugment)
    raise     all values by one number: spectra that are louder, pictures that are brighter
    blur      along each axis, under one Gaussian of up to so many positions
    speckle   Gaussian noise of up to such a deviation, after all else

The last two are what generated items have and real ones have not: who judges them by what they show
must not mind.

Legend: B batch, C channels, *space the space axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from morphogen.core.random import rand, randint, randn
from morphogen.core.spec import Spec, TensorSpec

NO_BLUR = 1e-2  # positions: a Gaussian so narrow leaves an item as it is
REACH = 2.5  # deviations of the widest Gaussian that are looked at


def may_vary(spec: Spec) -> bool:
    """Whether items are grids of numbers, which can be shown a little changed."""
    return isinstance(spec, TensorSpec) and spec.kind == "real" and bool(spec.space)


@dataclass(frozen=True)
class Variation:
    """How much may change; nothing, unless said."""

    max_shift: int = 0  # positions along each axis
    flip_prob: float = 0.0  # of mirroring
    mask_share: float = 0.0  # of an axis, that a hidden run takes at most
    max_gain: float = 0.0  # number that is added or taken away, at most
    max_blur: float = 0.0  # positions, the deviation of a Gaussian at most
    max_noise: float = 0.0  # deviation at most, of values in [-1, 1]

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """(B, C, *space) -> the same, each item changed by draws of its own."""
        if self.max_shift or self.flip_prob:
            x = self._moved(x, generator)
        if self.mask_share:
            x = self._masked(x, generator)
        if self.max_gain:
            gain = (2 * rand((len(x), *(1,) * (x.dim() - 1)), generator) - 1) * self.max_gain
            x = x + gain.to(x)
        if self.max_blur:
            x = self._blurred(x, generator)
        if self.max_noise:
            size = rand((len(x), *(1,) * (x.dim() - 1)), generator) * self.max_noise
            x = x + (size * randn(tuple(x.shape), generator)).to(x)
        return x

    def _blurred(self, x: Tensor, generator: torch.Generator) -> Tensor:
        width = (rand((len(x), 1), generator) * self.max_blur).clamp(min=NO_BLUR)  # (B, 1)
        reach = math.ceil(REACH * self.max_blur)
        away = torch.arange(-reach, reach + 1, device=width.device)
        weight = torch.softmax(-away.square() / (2 * width.square()), dim=1).to(x)  # (B, places)
        for axis, size in enumerate(x.shape[2:], start=2):
            place, seen = torch.arange(size, device=x.device), torch.zeros_like(x)
            for step, share in zip(away.tolist(), weight.T, strict=True):
                near = x.index_select(axis, (place + step).clamp(0, size - 1))
                seen = seen + share.view(-1, *(1,) * (x.dim() - 1)) * near
            x = seen
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
