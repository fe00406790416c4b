"""Which items stand in which batch: a function of (seed, step) alone.

The data is an endless stream of shuffled epochs; step s takes the items s B .. (s+1) B - 1 of it.
Nothing has to be remembered to resume in the middle of an epoch.

Where items differ in size and a batch costs as much as its largest, batches are of about one size:
within some POOL batches of a shuffled epoch, items are put in the order of their sizes, and the
batches that this makes are shuffled.

    4 31 9 | 12 28 5 | 30 6 11   ->   4 5 6 | 9 11 12 | 28 30 31   ->   28 30 31 | 4 5 6 | 9 11 12

Many items (the windows of a corpus) are shuffled by a permutation that is computed place by place,
so that no list of all of them is held: a Feistel network over the bits of the place, applied again
where it leaves the range (Black & Rogaway 2002, "cycle walking").
"""

from __future__ import annotations

import torch
from torch import Tensor

from morphogen.core.family import Family
from morphogen.core.random import mix_seed
from morphogen.data.store import Store, expand

MANY = 1 << 24  # items from which on a list of them all is too long
POOL = 64  # batches whose items are put in order together
MOST_MEASURED = 1 << 20  # items that are gone through for their sizes
ROUNDS = 6
ODD = 0x9E3779B97F4A7C15 - (1 << 64)  # as a signed number: the golden ratio, well mixed bits


class DataOrder:
    """Random access to the stream of shuffled epochs; of items of `sizes` (N,), where these tell
    which are to stand together."""

    def __init__(
        self, num_items: int, batch_size: int, seed: int, sizes: Tensor | None = None
    ) -> None:
        self.num_items, self.batch_size, self.seed = num_items, batch_size, seed
        self.sizes = sizes
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
            order = torch.randperm(self.num_items, generator=generator)
            if self.sizes is not None:
                order = self._of_one_size(order, epoch, generator)
            self._cached = (epoch, order)
        return self._cached[1]

    def _of_one_size(self, order: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        """The items of an epoch, each whole batch of about one size. Those of a batch that has
        items of another epoch, at the beginning and at the end, are left as they are."""
        assert self.sizes is not None
        first = -epoch * self.num_items % self.batch_size
        last = first + (self.num_items - first) // self.batch_size * self.batch_size
        if last <= first:
            return order
        parts = [order[:first]]
        for pool in torch.split(order[first:last], POOL * self.batch_size):
            ranked = pool[self.sizes[pool].argsort(stable=True)].view(-1, self.batch_size)
            parts.append(ranked[torch.randperm(len(ranked), generator=generator)].flatten())
        return torch.cat([*parts, order[last:]])


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


def sizes_of(split: Store, family: Family) -> Tensor | None:
    """How long each item is, and among those as long, what it is conditioned on: (N,); None where
    the network does not read items cut short, so that a batch costs the same whatever is in it."""
    spec, shortens = split.spec, getattr(family, "shortens", False)
    if not (shortens and spec.is_ragged and len(split) <= MOST_MEASURED):
        return None
    found = torch.cat([spec.num_real(expand(chunk, spec)) for chunk in split.chunks()]).double()
    for name, own in family.conditions.items():
        if own.is_ragged:
            found += own.num_real(split.cond[name]) / (own.num_values + 1) / len(family.conditions)
    return found
