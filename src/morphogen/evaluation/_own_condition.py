"""Whether what belongs to an item lies nearest to it of what belongs to others, in a space of both.

Equal conditions are one candidate: of two items that are called the same, each has found its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from morphogen.data.store import Store
from morphogen.evaluation._references import keys_of
from morphogen.evaluation.features import parts


@torch.no_grad()
def own_is_nearest(model: Any, split: Store, name: str, among: int | None = None) -> Tensor:
    """For each of N items whether its own condition `name` is the nearest, (N,) bool: of those of
    `among` items, or of all. The last group is filled up with the first items, so that nothing is
    easier to find in it. `model` is one that matches (`CanMatch`)."""
    num = len(split)
    size = min(among or num, num)
    found = []
    for index in parts(num, size):
        told = split.cond[name][(index[0] + torch.arange(size)) % num]
        candidates = distinct(told)
        number = {key: place for place, key in enumerate(keys_of({name: candidates}))}
        own = torch.tensor([number[key] for key in keys_of({name: told})])[: len(index)]
        other = placed(model, name, candidates)
        near = [
            (model.encode(split.batch(index[part]).to(model.device).x) @ other.T).argmax(1).cpu()
            for part in parts(len(index))
        ]
        found.append(torch.cat(near) == own)
    return torch.cat(found)


@torch.no_grad()
def placed(model: Any, name: str, values: Tensor) -> Tensor:
    """Encoded conditions (N, *) -> (N, D), where the model is."""
    told = (values[part].to(model.device) for part in parts(len(values)))
    return torch.cat([model.encode_condition({name: each}) for each in told])


def distinct(values: Tensor) -> Tensor:
    """Conditions (N, *), each once, in their order: (M, *)."""
    first: dict[bytes, int] = {}
    for place, key in enumerate(keys_of({"": values})):
        first.setdefault(key, place)
    return values[torch.tensor(list(first.values()))]
