"""Conditions: embedded, dropped, left out, misspelt."""

from __future__ import annotations

import pytest
import torch

from morphogen.core.conditioning import Conditioner, TimeEmbedding, check_conditions
from morphogen.core.errors import RefusedPair
from morphogen.core.random import generator
from morphogen.core.spec import TensorSpec

CONDITIONS = {
    "label": TensorSpec.label(4),
    "caption": TensorSpec.tokens(5, 20),
    "image": TensorSpec("real", (1, 2, 2)),
}


def build() -> Conditioner:
    conditioner = Conditioner(CONDITIONS, 8)
    with torch.no_grad():
        for i, none in enumerate(conditioner.none.values()):
            none.fill_(float(i + 1))
    return conditioner


def batch(size: int) -> dict[str, torch.Tensor]:
    draw = generator(0)
    return {
        "label": torch.randint(4, (size,), generator=draw),
        "caption": torch.randint(20, (size, 5), generator=draw),
        "image": torch.randn((size, 1, 2, 2), generator=draw),
    }


def test_the_sum_of_what_each_condition_gives() -> None:
    conditioner, cond = build(), batch(3)
    whole = conditioner(cond, 3)
    assert whole.shape == (3, 8)
    none = torch.tensor(6.0)  # 1 + 2 + 3
    alone = sum(conditioner({name: value}, 3) for name, value in cond.items())
    assert torch.allclose(alone, whole + 2 * none, atol=1e-5)


def test_absent_conditions_are_the_learned_none() -> None:
    conditioner = build()
    for nothing in (None, {}):
        assert torch.equal(conditioner(nothing, 2), torch.full((2, 8), 6.0))
    assert Conditioner({}, 8)(None, 2).shape == (2, 8)


def test_dropping_replaces_all_of_an_items_conditions() -> None:
    conditioner, cond = build(), batch(400)
    whole = conditioner(cond, 400)
    mixed = conditioner(cond, 400, 0.25, generator(0))
    dropped = (mixed == 6.0).all(1)
    assert torch.equal(mixed[~dropped], whole[~dropped])
    # 25 % of 400, within five standard deviations
    assert abs(int(dropped.sum()) - 100) < 5 * (400 * 0.25 * 0.75) ** 0.5
    assert torch.equal(conditioner(cond, 400, 1.0, generator(0)), torch.full((400, 8), 6.0))


def test_nothing_is_dropped_without_a_generator() -> None:
    conditioner, cond = build(), batch(5)
    assert torch.equal(conditioner(cond, 5, 0.9), conditioner(cond, 5))


def test_a_misspelt_condition_is_named() -> None:
    with pytest.raises(RefusedPair, match="Did you mean 'label'"):
        check_conditions({"lable": torch.zeros(1)}, CONDITIONS)
    with pytest.raises(RefusedPair, match="unconditional"):
        Conditioner({}, 4)({"label": torch.zeros(1)}, 1)


def test_time_embedding_tells_near_times_apart() -> None:
    embed = TimeEmbedding(32)
    t = torch.linspace(0, 1, 101)
    out = embed(t)
    assert out.shape == (101, 32)
    gaps = torch.cdist(out, out) + torch.eye(101) * 1e3
    assert gaps.min() > 1e-4
