"""Canaries: made-up items planted in the training split, to find out what a model remembers.

A canary is a patchwork: its positions are cut into blocks (a vector's values each by itself), and
every block is that of another training item, drawn at random. Its parts are as usual as the data's,
in any spec; that they come together is what there is to remember. The conditions are those of one
training item. References are drawn in the same way and never planted: what a model makes of them is
what it makes of items that it has not seen (`evaluation.exposure`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from morphogen.core.encoded import rows
from morphogen.core.errors import DataError
from morphogen.core.random import generator, mix_seed, randint
from morphogen.core.spec import ProductSpec, Spec
from morphogen.data.progress import told
from morphogen.data.store import (
    MemoryStore,
    Store,
    compact,
    digest_stores,
    expand,
    join,
    no_items,
)

REPEATS = (1, 4, 16, 64)
MOST_VALUES = 1 << 24  # of training items, looked at in one go
BLOCKS = {1: 16, 2: 4, 3: 2}  # parts that every axis is cut into, by the number of axes


@dataclass(frozen=True)
class Canaries:
    """What was planted: `planted` (N items), how often each (N,), and R references never seen."""

    planted: Store
    repeats: Tensor
    references: Store
    digest: str  # of the data that they were planted in, canaries included
    seed: int

    def to_json(self) -> dict[str, Any]:
        """What a record says of them; the same data and seed give the same canaries again."""
        counts = {str(int(r)): int((self.repeats == r).sum()) for r in torch.unique(self.repeats)}
        about = {"num_references": len(self.references), "digest": self.digest, "seed": self.seed}
        return {"canaries_by_repeats": counts, **about}


class Plantable(Protocol):
    """A dataclass that has what canaries are planted in: `data.dataset.Data`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    train: Store
    test: Store
    source: str

    @property
    def spec(self) -> Any:
        """What one encoded item looks like."""


D = TypeVar("D", bound=Plantable)


def plant(
    data: D,
    repeats: Sequence[int] = REPEATS,
    *,
    num: int = 8,
    num_references: int = 1024,
    seed: int = 0,
) -> D:
    """The data with `num` canaries for each of `repeats` in its training split.

    Train on what is returned, then evaluate the model with it. The same data, arguments and seed
    give the same canaries again. Raises `DataError` when there are too few training items to draw
    them from, or fewer than canaries: what is trained would be a model of these.
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
    if num * len(repeats) > (most := len(data.train)):
        times = ", ".join(map(str, repeats))
        raise DataError(
            "there would be more canaries than training items",
            found=f"{num:,} canaries for each of {len(repeats)} numbers of times ({times})",
            expected=f"at most {most // len(repeats):,}, for {most:,} training items",
            where=data.source,
            hint="--canaries 8, which are enough for a mean with its interval"
            if most >= 8 * len(repeats)
            else "more data: its canaries are patchworks of too few items",
        )
    draw = generator(mix_seed(seed, 77))
    total = num * len(repeats)
    drawn = patchworks(data.train, total + num_references, draw)
    numbers = torch.arange(total + num_references)
    planted, references = drawn.take(numbers[:total]), drawn.take(numbers[total:])
    often = torch.tensor(list(repeats)).repeat_interleave(num)
    train = join(data.train, planted.take(numbers[:total].repeat_interleave(often)))
    digest = digest_stores(data.spec, {"train": train, "test": data.test})
    canaries = Canaries(planted, often, references, digest, seed)
    return replace(data, train=train, digest=digest, canaries=canaries)


def patchworks(store: Store, num: int, generator: torch.Generator) -> Store:
    """`num` items, every block of each from another item of the store, drawn at random."""
    block = block_numbers(store.spec)  # (*shape), or of each part
    named = block if isinstance(block, dict) else {"": block}
    count = max(int(each.max()) for each in named.values()) + 1
    source = randint(len(store), (num, count), generator)  # (num, blocks)
    x = no_items(store.spec, num)
    at_once = max(1, MOST_VALUES // (count * store.spec.num_values))
    parts = torch.split(torch.arange(num), at_once)
    for part in told(parts, "making", num, "canaries", count=len):
        found = store.stored(source[part].flatten())  # (items, blocks) in a row, * each
        for name, each in named.items():
            own = found[name] if isinstance(found, dict) else found
            wide = own.view(len(part), count, -1)  # (items, blocks, values)
            (x[name] if name else x)[int(part[0]) : int(part[-1]) + 1] = wide[
                torch.arange(len(part))[:, None], each.flatten(), torch.arange(wide.shape[2])
            ].view(len(part), *each.shape)
    cond = {name: rows(values, source[:, 0]) for name, values in store.cond.items()}
    x = compact(store.spec.canonical(expand(x, store.spec)), store.spec)
    return MemoryStore(store.spec, x, cond, [f"canary {i}" for i in range(num)])


def block_numbers(spec: Spec) -> Any:
    """Which block each value of an item belongs to, (*shape); of an item of parts, those of each
    part, one part's after the other's."""
    if isinstance(spec, ProductSpec):
        blocks, first = {}, 0
        for name, part in spec:
            blocks[name] = block_numbers(part) + first
            first = int(blocks[name].max()) + 1
        return blocks
    if spec.layout == "vector" or not spec.space:
        return torch.arange(spec.num_values).view(spec.shape)
    number = torch.zeros(spec.space, dtype=torch.long)
    for axis, extent in enumerate(spec.space):
        count = min(BLOCKS.get(len(spec.space), 2), extent)
        place = torch.arange(extent) * count // extent
        shape = [extent if other == axis else 1 for other in range(len(spec.space))]
        number = number * count + place.view(shape)
    return number.expand(spec.shape)
