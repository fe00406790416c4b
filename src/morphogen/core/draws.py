"""Draws of a model, several for each row of a batch: from nothing, or going on from beginnings.

    a row with weights      what stands before the first token that is learned is asked
    a text with an end      it is a beginning, which is gone on with
    anything else           an item is drawn, given the row's conditions if there are any

Legend: B rows, G draws of each, N = B G draws, L tokens of an item.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.capability import CanSample, missing
from morphogen.core.errors import RefusedPair
from morphogen.core.objective import Drawn
from morphogen.core.random import randint
from morphogen.core.spec import TensorSpec
from morphogen.core.writing import CanWrite, Request

Prompts = Literal["auto", "none"]
LEFT = 4  # a beginning leaves one part in so many of what the model sees to what follows, at least


@torch.no_grad()
def draws(
    family: Any,
    batch: Batch,
    num: int,
    *,
    prompts: Prompts,
    most: int | None,
    generator: torch.Generator,
) -> Drawn:
    """`num` draws for each row of a batch, those of a row next to each other."""
    rows = torch.arange(len(batch)).repeat_interleave(num)
    cond = {name: batch.cond[name][rows] for name in family.conditions if name in batch.cond}
    if not writes(family):
        if missing(family, CanSample):
            raise RefusedPair("this family draws nothing", found=type(family).__name__)
        x = family.sample(len(rows), cond=cond or None, generator=generator)
        return Drawn(Batch(x, cond=cond))
    begun = batch.weight is None
    begin = prompts != "none" and (not begun or family.spec.end is not None)
    empty = torch.empty(0, dtype=torch.int64)
    starts = [_beginning(batch, i, family.spec) if begin else empty for i in range(len(batch))]
    seeds = randint(2**31, (len(rows),), generator).tolist()
    requests = []
    for place, row in enumerate(rows.tolist()):
        room = family.spec.shape[0] - len(starts[row])
        own = {name: value[place] for name, value in cond.items()} or None
        seed = int(seeds[place])
        requests.append(Request(starts[row], min(room, most or room), seed=seed, cond=own))
    x, came = written(family, requests)
    return Drawn(Batch(x, cond=cond, weight=came.float()), came, begun)


def writes(family: Any) -> bool:
    """Whether a family draws texts, token by token."""
    spec = family.spec
    is_text = isinstance(spec, TensorSpec) and spec.kind == "token" and spec.sizes is None
    ends = is_text and (spec.end is not None or spec.boundary is not None)
    return bool(ends) and not missing(family, CanWrite)


def _beginning(batch: Batch, row: int, spec: TensorSpec) -> Tensor:
    """The tokens (n,) that are gone on with."""
    x: Tensor = batch.x[row].cpu()
    if batch.weight is not None:
        learned = (batch.weight[row] > 0).nonzero()
        return x[: int(learned[0])] if len(learned) else x[:0]
    size = int(x.ne(spec.end or 0).sum())
    length = spec.shape[0]
    return x[: min(size, length - -(-length // LEFT))]


def written(family: Any, requests: Sequence[Request]) -> tuple[Tensor, Tensor]:
    """What was asked with what came (N, L), and where the latter stands (N, L), bool."""
    spec = family.spec
    pad = spec.end if spec.end is not None else spec.boundary
    x = torch.full((len(requests), spec.shape[0]), pad, dtype=torch.int64)
    came = torch.zeros(x.shape, dtype=torch.bool)
    place = [len(request.prompt) for request in requests]
    for row, request in enumerate(requests):
        x[row, : place[row]] = request.prompt
    for step in family.write(requests):
        for each in step:
            x[each.row, place[each.row]] = each.token
            came[each.row, place[each.row]] = True
            place[each.row] += 1
    return x.to(family.device), came.to(family.device)
