"""Whether what belongs to an item lies nearest to it, as an evaluation counts it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from morphogen.core.random import generator
from morphogen.data.store import MemoryStore
from morphogen.evaluation._items import matching
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
