"""Canaries: made-up items planted in the training split, to find out what a model remembers.

A canary is a patchwork: its positions are cut into blocks (a vector's values each by itself), and
every block is that of another training item, drawn at random. Its parts are as usual as the data's,
in any spec; that they come together is what there is to remember. The conditions are those of one
training item. References are drawn in the same way and never planted: what a model makes of them is
what it makes of items that it has not seen (`evaluation.exposure`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from morphogen.core.errors import DataError
from morphogen.core.random import generator, mix_seed, randint
from morphogen.core.spec import TensorSpec
from morphogen.data.store import Split, digest_splits

if TYPE_CHECKING:
    from morphogen.data.dataset import Data

REPEATS = (1, 4, 16, 64)
CHUNK = 256
BLOCKS = {1: 16, 2: 4, 3: 2}  # parts that every axis is cut into, by the number of axes


@dataclass(frozen=True)
class Canaries:
    """What was planted: `planted` (N items), how often each (N,), and R references never seen."""

    planted: Split
    repeats: Tensor
    references: Split
    digest: str  # of the data that they were planted in, canaries included
    seed: int

    def to_json(self) -> dict[str, Any]:
        """What a record says of them; the same data and seed give the same canaries again."""
        counts = {str(int(r)): int((self.repeats == r).sum()) for r in torch.unique(self.repeats)}
        about = {"num_references": len(self.references), "digest": self.digest, "seed": self.seed}
        return {"canaries_by_repeats": counts, **about}


def plant(
    data: Data,
    repeats: Sequence[int] = REPEATS,
    *,
    num: int = 8,
    num_references: int = 1024,
    seed: int = 0,
) -> Data:
    """The data with `num` canaries for each of `repeats` in its training split.

    Train on what is returned, then evaluate the model with it. The same data, arguments and seed
    give the same canaries again. Raises `DataError` when there are too few training items to draw
    them from.
    """
    counts = [num, num_references, *repeats]
    counted = all(isinstance(each, int) and each >= 1 for each in counts)
    if len(data.train) < 2 or not repeats or not counted:
        raise DataError(
            "canaries cannot be planted",
            found=f"{len(data.train)} training items, {num} canaries, repeats {list(repeats)}",
            expected="at least two training items, one canary, and one repeat",
            where=data.source,
        )
    draw = generator(mix_seed(seed, 77))
    total = num * len(repeats)
    drawn = patchworks(data.train, total + num_references, draw)
    numbers = torch.arange(total + num_references)
    planted, references = drawn.take(numbers[:total]), drawn.take(numbers[total:])
    often = torch.tensor(list(repeats)).repeat_interleave(num)
    train = _joined(data.train, planted.take(numbers[:total].repeat_interleave(often)))
    digest = digest_splits(data.spec, {"train": train, "test": data.test})
    canaries = Canaries(planted, often, references, digest, seed)
    return replace(data, train=train, digest=digest, canaries=canaries)


def patchworks(split: Split, num: int, generator: torch.Generator) -> Split:
    """`num` items, every block of each from another item of the split, drawn at random."""
    block = block_numbers(split.spec)  # (*shape)
    source = randint(len(split), (num, int(block.max()) + 1), generator)  # (num, blocks)
    x = split.x.new_empty(num, *split.spec.shape).flatten(1)
    columns = torch.arange(x.shape[1])
    for part in torch.split(torch.arange(num), CHUNK):
        x[part] = split.x.flatten(1)[source[part][:, block.flatten()], columns]
    whose = source[:, 0]
    cond = {name: values[whose] for name, values in split.cond.items()}
    return Split(
        split.spec, x.view(num, *split.spec.shape), cond, [f"canary {i}" for i in range(num)]
    )


def block_numbers(spec: TensorSpec) -> Tensor:
    """Which block each value of an item belongs to, (*shape)."""
    if spec.layout == "vector" or not spec.space:
        return torch.arange(spec.num_values).view(spec.shape)
    number = torch.zeros(spec.space, dtype=torch.long)
    for axis, extent in enumerate(spec.space):
        count = min(BLOCKS.get(len(spec.space), 2), extent)
        place = torch.arange(extent) * count // extent
        shape = [extent if other == axis else 1 for other in range(len(spec.space))]
        number = number * count + place.view(shape)
    return number.expand(spec.shape)


def _joined(first: Split, second: Split) -> Split:
    names = list(itertools.chain(first.names, second.names)) if first.names else []
    cond = {name: torch.cat([v, second.cond[name]]) for name, v in first.cond.items()}
    return Split(first.spec, torch.cat([first.x, second.x]), cond, names)
