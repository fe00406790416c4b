"""Whether what belongs to an item lies nearest to it, as an evaluation counts it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from morphogen.core.random import generator
from morphogen.core.spec import TensorSpec
from morphogen.data.store import MemoryStore
from morphogen.evaluation._items import matching
from morphogen.evaluation._own_condition import own_is_nearest
from morphogen.testing.oracles import TwoTones


def test_tones_are_matched_to_their_names_and_to_wrong_ones_never() -> None:
    """An oracle is right about every item, and wrong about those that are called otherwise."""
    model = TwoTones()
    x = model.sample(80, generator=generator(0))
    names = model.features(x).argmax(1)
    told = names.clone()
    told[:5] = 1 - told[:5]
    data: Any = SimpleNamespace(test=MemoryStore.of(model.spec, x, cond={"tone": told}))
    bundle: Any = SimpleNamespace(family=model)
    (found,) = matching(bundle, data)
    assert (found.name, found.values.tolist()) == ("matched", [0.0] * 5 + [1.0] * 75)
    data.test = MemoryStore.of(model.spec, x)
    assert matching(bundle, data) == []
    assert torch.equal(found.index, torch.arange(80))


def test_the_last_group_is_no_easier() -> None:
    """A model that takes every item for the first finds that alone; with nothing beside it, the
    65th would have been found as well."""
    model: Any = SimpleNamespace(
        device="cpu", encode=lambda x: torch.eye(65)[:1].expand(len(x), -1),
        encode_condition=lambda cond: torch.eye(65)[cond["name"]],
    )  # fmt: skip
    names = torch.arange(65)
    split = MemoryStore.of(TensorSpec.tokens(1, 65), names[:, None], cond={"name": names})
    for among in (64, None):
        assert own_is_nearest(model, split, "name", among).tolist() == [True] + [False] * 64
