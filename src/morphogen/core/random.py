"""Explicit randomness: every stochastic call takes a `torch.Generator`.

Families draw through these functions and not through `torch.randn`, for one reason: under data
parallelism each process holds a slice of the global batch, and must draw the slice of the numbers
that one process would have drawn. `ShardedGenerator` carries the slice; these functions obey it,
so that N processes compute the gradients of one.
"""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from morphogen.core.errors import RecipeError


class ShardedGenerator(torch.Generator):
    """A generator for process `rank` of `world_size`: draws for all, hands out one slice."""

    rank: int = 0
    world_size: int = 1

    def shard(self, rank: int, world_size: int) -> ShardedGenerator:
        """Set the slice and return self."""
        self.rank, self.world_size = rank, world_size
        return self


class JoinedGenerator(torch.Generator):
    """The generators of several items, one for each row of a batch: every item gets the numbers
    that it would get alone. Of what these functions draw by it, the first axis is the batch."""

    def of(self, parts: Sequence[torch.Generator]) -> JoinedGenerator:
        """Take these generators, and return self."""
        self.parts = list(parts)
        return self


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device`, seeded. Raises `RecipeError` for what is no seed."""
    try:
        return torch.Generator(device=device).manual_seed(operator.index(seed))
    except (TypeError, ValueError) as error:
        raise RecipeError(
            "that is no seed", found=reprlib.repr(seed),
            expected="a whole number from -2**63 to 2**63 - 1", hint="seed=0",
        ) from error  # fmt: skip


def mix_seed(*parts: int) -> int:
    """Hash integers into one 63-bit seed (splitmix64 finaliser), so that (seed, step) never clash
    with (seed + 1, step - 1)."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state + (part & 0xFFFFFFFFFFFFFFFF) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 30
        state = (state * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


def seed_global(seed: int) -> None:
    """Seed the global generators of the devices in use, as `torch.manual_seed` does; that one keeps
    a note with a stack of every call besides, for devices that are not there yet."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


def randn(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard normal numbers; the first axis is the batch."""
    if isinstance(generator, JoinedGenerator):
        return _row_by_row(randn, shape, generator)
    full, own = _span(shape, generator)
    return torch.randn(full, generator=generator, device=generator.device)[own]


def rand(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1); the first axis is the batch."""
    if isinstance(generator, JoinedGenerator):
        return _row_by_row(rand, shape, generator)
    full, own = _span(shape, generator)
    return torch.rand(full, generator=generator, device=generator.device)[own]


def randint(high: int, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Integers in [0, high); the first axis is the batch."""
    if isinstance(generator, JoinedGenerator):
        return _row_by_row(partial(randint, high), shape, generator)
    full, own = _span(shape, generator)
    return torch.randint(high, full, generator=generator, device=generator.device)[own]


def bernoulli(probs: Tensor, generator: torch.Generator) -> Tensor:
    """Zeros and ones, one with probability `probs`; the first axis is the batch."""
    return (rand(probs.shape, generator).to(probs) < probs).to(probs.dtype)


def categorical(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Indices drawn from softmax(logits) over the last axis: argmax(logits + Gumbel noise)."""
    uniform = rand(logits.shape, generator).to(logits).clamp_(1e-10, 1 - 1e-7)
    return (logits - torch.log(-torch.log(uniform))).argmax(-1)


def stratified(num: int, generator: torch.Generator) -> Tensor:
    """`num` uniform numbers in [0, 1), one in each of as many equal parts, in random order.

    Each alone is uniform; together they cover the range evenly, which takes variance out of an
    expectation over them. Under data parallelism the parts are those of the global batch.
    """
    (total,), own = _span((num,), generator)
    draws = torch.rand(total, generator=generator, device=generator.device)
    order = torch.randperm(total, generator=generator, device=generator.device)
    return ((order + draws) / total)[own]


def _row_by_row(
    draw: Callable[[Sequence[int], torch.Generator], Tensor],
    shape: Sequence[int],
    generator: JoinedGenerator,
) -> Tensor:
    if shape[0] != len(generator.parts):
        raise ValueError(f"{shape[0]} rows are drawn for {len(generator.parts)} items")
    return torch.cat([draw((1, *shape[1:]), part) for part in generator.parts])


def _span(shape: Sequence[int], generator: torch.Generator) -> tuple[tuple[int, ...], slice]:
    """The global shape to draw, and the rows of it that belong to this process."""
    rank = getattr(generator, "rank", 0)
    world_size = getattr(generator, "world_size", 1)
    batch = shape[0] if len(shape) else 1
    return (batch * world_size, *shape[1:]), slice(rank * batch, (rank + 1) * batch)
