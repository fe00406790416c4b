"""Randomness: explicit, and the same for one process as for many."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from morphogen.core.random import (
    JoinedGenerator,
    ShardedGenerator,
    bernoulli,
    categorical,
    generator,
    mix_seed,
    rand,
    randint,
    randn,
)

LOGITS = torch.tensor([0.0, 1.0, -2.0, 0.5])
DRAWS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "randn": lambda n, g: randn((n, 3), g),
    "rand": lambda n, g: rand((n,), g),
    "randint": lambda n, g: randint(10, (n, 2), g),
    "bernoulli": lambda n, g: bernoulli(torch.full((n, 5), 0.3), g),
    "categorical": lambda n, g: categorical(LOGITS.expand(n, 6, 4), g),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_shards_are_slices_of_one_draw(draw: Callable[[int, torch.Generator], Tensor]) -> None:
    one = generator(3)
    whole = [draw(12, one), draw(12, one)]  # the generators stay in step after a draw
    for rank in range(3):
        sharded = ShardedGenerator().shard(rank, 3)
        sharded.manual_seed(3)
        for full in whole:
            assert torch.equal(draw(4, sharded), full[4 * rank : 4 * rank + 4])


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_global_generator_is_left_alone(
    draw: Callable[[int, torch.Generator], Tensor],
) -> None:
    before = torch.get_rng_state()
    one = draw(8, generator(1))
    assert torch.equal(one, draw(8, generator(1)))
    assert not torch.equal(draw(64, generator(1)), draw(64, generator(2)))
    assert torch.equal(before, torch.get_rng_state())


def test_categorical_frequencies() -> None:
    """Within five standard errors of softmax."""
    n = 40_000
    counts = torch.bincount(categorical(LOGITS.expand(n, 4), generator(0)), minlength=4) / n
    p = LOGITS.softmax(0)
    assert ((counts - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()


def test_categorical_never_draws_what_is_impossible() -> None:
    logits = torch.tensor([0.0, float("-inf"), 0.0]).expand(5000, 3)
    assert set(categorical(logits, generator(0)).tolist()) == {0, 2}


def test_bernoulli_frequency_and_kind() -> None:
    draws = bernoulli(torch.full((20_000,), 0.3), generator(0))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert float(draws.mean()) == pytest.approx(0.3, abs=5 * (0.21 / 20_000) ** 0.5)


def test_seeds_do_not_clash() -> None:
    seeds = {mix_seed(a, b) for a in range(60) for b in range(60)}
    assert len(seeds) == 3600
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix_seed(1, 2) != mix_seed(2, 1)
    assert mix_seed(-1) == mix_seed(-1)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_joined_generators_give_each_row_what_it_gets_alone(
    draw: Callable[[int, torch.Generator], Tensor],
) -> None:
    joined = JoinedGenerator().of([generator(seed) for seed in (3, 1, 3)])
    alone = [draw(1, generator(seed)) for seed in (3, 1, 3)]
    assert torch.equal(draw(3, joined), torch.cat(alone))
    with pytest.raises(ValueError, match="for 3 items"):
        draw(2, joined)
