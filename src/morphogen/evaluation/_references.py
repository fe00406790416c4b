"""Each generated item beside a held-out one of the conditions that it was asked for with.

Conditions are compared whole: classes, numbers, captions and pictures, all of one item together. A
training item for the floor has equal conditions too, where there is one; else it is the one whose
conditions are nearest, as nobody's caption comes twice. That floor is what looking things up in
the training split would reach.

Legend: N generated items, M real ones, D values that conditions are described by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from morphogen.core.conditioning import of_items, present
from morphogen.core.encoded import Encoded, rows
from morphogen.core.errors import MeasurementError
from morphogen.core.metric import References
from morphogen.core.random import generator, mix_seed
from morphogen.core.spec import TensorSpec
from morphogen.data.dataset import Data
from morphogen.evaluation._judge import Samples
from morphogen.evaluation.features import parts
from morphogen.evaluation.vectors import Vectors

MOST_ITEMS = 2_000  # generated ones
Conditions = Mapping[str, Tensor]  # by name, each (N, *shape)


def references_of(x: Encoded, samples: Samples, data: Data, seed: int) -> References:
    """The pairs of generated and held-out items, with training items for the floor.

    Raises `MeasurementError` where nothing was asked for, or the data has no such items.
    """
    names = [name for name in samples.asked if name in data.test.cond]
    if not names:
        raise MeasurementError("the samples were asked for without conditions", found="none")
    draw = generator(mix_seed(seed, 5))
    asked = {name: samples.asked[name][:MOST_ITEMS] for name in names}
    held_out = with_equal(asked, {name: data.test.cond[name] for name in names}, draw)
    keep = (held_out >= 0).nonzero()[:, 0]
    if len(keep) < 2:
        raise MeasurementError("no real items have the conditions of the samples", found=len(keep))
    asked = {name: value[keep] for name, value in asked.items()}
    own = {name: data.train.cond[name] for name in names}
    train = with_equal(asked, own, draw)
    if (without := train < 0).any():
        some = {name: value[without] for name, value in asked.items()}
        train[without] = _with_nearest(some, own, data.conditions)
    return References(
        data.spec,
        rows(rows(x, slice(MOST_ITEMS)), keep),
        data.test.batch(held_out[keep]).x,
        data.train.batch(train).x,
        names,
        data.codec.decode_many,
    )


def with_equal(asked: Conditions, own: Conditions, draw: torch.Generator) -> Tensor:
    """For each of what was `asked` for the number of a random equal one of `own`, or -1: (N,)."""
    places: dict[bytes, list[int]] = {}
    for number, key in enumerate(keys_of(own)):
        places.setdefault(key, []).append(number)
    found = []
    for key in keys_of(asked):
        equal = places.get(key, [])
        pick = int(torch.randint(max(1, len(equal)), (), generator=draw))
        found.append(equal[pick] if equal else -1)
    return torch.tensor(found)


def keys_of(conditions: Conditions) -> list[bytes]:
    """All that is said of one item, as bytes."""
    flat = [value.reshape(len(value), -1).contiguous().numpy() for value in conditions.values()]
    return [b"".join(row.tobytes() for row in said) for said in zip(*flat, strict=True)]


def _with_nearest(asked: Conditions, own: Conditions, specs: Mapping[str, TensorSpec]) -> Tensor:
    """For each of what was `asked` for the number of the one of `own` that is least unlike: (N,).

    Every condition counts alike; one that is not said is like the mean of those that are.
    """
    described: list[tuple[Tensor, Tensor]] = []
    for name, real in own.items():
        vectors = Vectors.of(_said(real, specs[name]), specs[name])
        both = (_described(each, specs[name], vectors) for each in (asked[name], real))
        described.append(cast("tuple[Tensor, Tensor]", tuple(both)))
    wanted, known = (torch.cat(each, 1) for each in zip(*described, strict=True))  # (N, D), (M, D)
    return torch.cat([torch.cdist(wanted[i], known).argmin(1) for i in parts(len(wanted))])


def _said(values: Tensor, spec: TensorSpec) -> Tensor:
    """Of what is said of any item: the first few that are not absent."""
    there = values[present(values, spec)]
    return there if len(there) else torch.zeros_like(values[:1])


def _described(values: Tensor, spec: TensorSpec, vectors: Vectors) -> Tensor:
    there = present(values, spec)
    found = vectors(values.masked_fill(~of_items(there, values), 0))
    return found * there[:, None] / math.sqrt(vectors.dim)
