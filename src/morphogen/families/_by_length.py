"""Items that end early, in groups of about one length: what is beyond an end is not computed.

    lengths   4 31 9 12 28 5   ->   4 5 9 12 up to 12,   28 31 up to 31

Legend: B batch, L longest length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from morphogen.core.batch import Batch, learned_length

LEAST = 8  # items of a group
CALL = 64  # tokens that take as long as one more call of the network does by itself
ENOUGH = (
    256  # tokens of a group, where weights choose: products of as many rows are as fast as more
)


def by_length(
    model: Any, tokens: Tensor, batch: Batch, generator: torch.Generator | None, **given: Any
) -> Tensor:
    """log p(x_i | x_<i, cond) of an autoregressive model: (B, L) -> (B, L), 0 in place of what is
    beyond an item's end. A generator drops conditions, as in training; `given` is for `log_probs`.

    On CPUs; elsewhere all are computed as they stand, since shapes that change from step to step
    cost more there than they save.
    """

    def told(tokens: Tensor, cond: dict[str, Tensor], **only: Tensor) -> Tensor:
        context = model.embedded(cond, len(tokens), generator)
        found: Tensor = model.log_probs(tokens, context, **given, **only)
        return found

    on_cpu = model.shortens and tokens.device.type == "cpu"
    if on_cpu and model.spec.end is not None and batch.mask is None:
        lengths = model.spec.num_real(batch.x).long()
        groups = num_groups(lengths.sort().values)
        real = torch.arange(tokens.shape[1]) < lengths[:, None]
    elif on_cpu and batch.weight is not None and batch.weight.shape == tokens.shape:
        real = batch.weight > 0  # the rest counts for nothing
        lengths = learned_length(batch.weight)
        groups = max(int(lengths.sum()) // ENOUGH, 1)
    else:
        return told(tokens, batch.cond)
    log_p = torch.zeros(tokens.shape)
    for rows in lengths.argsort(stable=True).chunk(groups):
        longest = max(int(lengths[rows[-1]]), 1)
        own = {name: value[rows] for name, value in batch.cond.items()}
        log_p[rows, :longest] = told(tokens[rows, :longest], own, real=real[rows, :longest])
    return log_p


def num_groups(lengths: Tensor) -> int:
    """In how many groups items of `lengths` (B,), the shortest first, take least: each is computed
    up to its longest, and asks for the network once more."""

    def cost(num: int) -> int:
        return sum(len(own) * int(own[-1]) + CALL for own in lengths.chunk(num))

    return min(range(1, max(len(lengths) // LEAST, 1) + 1), key=cost)
