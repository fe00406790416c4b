"""What a model is asked for in an evaluation: the conditions of held-out items, jointly.

A caption and a price that belong to one item are given together, as independent draws would ask for
what there is not. A bundle keeps no captions of anybody, so they come from the data at hand.
"""

from __future__ import annotations

import torch
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Codec
from morphogen.core.codec_storage import codec_tensors, describe_codec
from morphogen.core.conditioning import absent, present
from morphogen.data.dataset import Data


def held_out_conditions(
    bundle: Bundle, data: Data, num: int, draw: torch.Generator
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Conditions (num, ...) of held-out items drawn with replacement, as the model has them and as
    the data has them; none where there is but one label, which the bundle itself can draw."""
    wanted = [name for name in bundle.family.conditions if name in data.test.cond]
    if not wanted or (len(wanted) == 1 and bundle.family.conditions[wanted[0]].is_label):
        return {}, {}
    index = torch.randint(len(data.test), (num,), generator=draw)
    return (
        {name: encoded_for(bundle, data, name)[index] for name in wanted},
        {name: data.test.cond[name][index] for name in wanted},
    )


def encoded_for(bundle: Bundle, data: Data, name: str) -> Tensor:
    """A condition of all held-out items as the model has it: another reading of the data may number
    classes anew, or cut captions elsewhere."""
    values, own, spec = data.test.cond[name], data.conditions[name], bundle.family.conditions[name]
    theirs, ours = (each.condition_codecs.get(name) for each in (data.codec, bundle.codec))
    if theirs is ours or theirs is None or ours is None or _read_alike(theirs, ours):
        return values
    there = present(values, own).tolist()
    rows = [
        bundle.codec.encode_condition(name, theirs.decode(row)) if is_there else absent(spec)
        for row, is_there in zip(values, there, strict=True)
    ]
    return torch.stack(rows)


def _read_alike(one: Codec, other: Codec) -> bool:
    """Whether two codecs encode everything in the same way."""
    if describe_codec(one) != describe_codec(other):
        return False
    first, second = codec_tensors(one), codec_tensors(other)
    return all(torch.equal(first[name], second[name]) for name in first)
