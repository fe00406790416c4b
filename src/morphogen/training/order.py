"""Which items stand in which batch: a function of (seed, step) alone.

The data is an endless stream of shuffled epochs; step s takes the items s B .. (s+1) B - 1 of it.
Nothing has to be remembered to resume in the middle of an epoch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from morphogen.core.random import mix_seed


class DataOrder:
    """Random access to the stream of shuffled epochs."""

    def __init__(self, num_items: int, batch_size: int, seed: int) -> None:
        self.num_items, self.batch_size, self.seed = num_items, batch_size, seed
        self._cached: tuple[int, Tensor] = (-1, torch.empty(0))

    def rows(self, step: int) -> Tensor:
        """Indices of the items in the batch of `step`. (batch_size,)"""
        position, end = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while position < end:
            epoch, offset = divmod(position, self.num_items)
            take = min(self.num_items - offset, end - position)
            parts.append(self._shuffled(epoch)[offset : offset + take])
            position += take
        return torch.cat(parts)

    def _shuffled(self, epoch: int) -> Tensor:
        if self._cached[0] != epoch:
            generator = torch.Generator().manual_seed(mix_seed(self.seed, epoch))
            self._cached = (epoch, torch.randperm(self.num_items, generator=generator))
        return self._cached[1]
