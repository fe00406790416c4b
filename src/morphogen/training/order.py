"""Which items stand in which batch: a function of (seed, step) alone.

The data is an endless stream of shuffled epochs; step s takes the items s B .. (s+1) B - 1 of it.
Nothing has to be remembered to resume in the middle of an epoch.

Many items (the windows of a corpus) are shuffled by a permutation that is computed place by place,
so that no list of all of them is held: a Feistel network over the bits of the place, applied again
where it leaves the range (Black & Rogaway 2002, "cycle walking").
"""

from __future__ import annotations

import torch
from torch import Tensor

from morphogen.core.random import mix_seed

MANY = 1 << 24  # items from which on a list of them all is too long
ROUNDS = 6
ODD = 0x9E3779B97F4A7C15 - (1 << 64)  # as a signed number: the golden ratio, well mixed bits


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
            parts.append(self._places(epoch, offset, offset + take))
            position += take
        return torch.cat(parts)

    def _places(self, epoch: int, start: int, stop: int) -> Tensor:
        if self.num_items < MANY:
            return self._shuffled(epoch)[start:stop]
        return permuted(torch.arange(start, stop), self.num_items, mix_seed(self.seed, epoch))

    def _shuffled(self, epoch: int) -> Tensor:
        if self._cached[0] != epoch:
            generator = torch.Generator().manual_seed(mix_seed(self.seed, epoch))
            self._cached = (epoch, torch.randperm(self.num_items, generator=generator))
        return self._cached[1]


def permuted(places: Tensor, num: int, seed: int) -> Tensor:
    """Where a permutation of 0 .. num - 1, drawn by the seed, takes each place."""
    bits = max(2, (num - 1).bit_length())
    half = (bits + 1) // 2
    keys = [mix_seed(seed, number) for number in range(ROUNDS)]
    found = places
    while True:
        outside = found >= num if found is not places else torch.ones_like(found, dtype=torch.bool)
        if not bool(outside.any()):
            return found
        found = torch.where(outside, _feistel(found, half, keys), found)


def _feistel(x: Tensor, half: int, keys: list[int]) -> Tensor:
    """A bijection of the numbers below 2^(2 half)."""
    mask = (1 << half) - 1
    left, right = x >> half, x & mask
    for key in keys:
        mixed = (right ^ (key & mask)) * ODD + (key >> 3)
        mixed = (mixed ^ (mixed >> 29)) * ODD
        left, right = right, left ^ ((mixed >> 31) & mask)
    return (left << half) | right
