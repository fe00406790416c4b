"""Items that end early, in groups of about one length: what is beyond an end is not computed.

    lengths   4 31 9 12 28 5   ->   4 5 9 12 up to 12,   28 31 up to 31

Legend: B batch, L longest length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from morphogen.core.batch import Batch

TOGETHER = 16  # items of a group


def by_length(model: Any, tokens: Tensor, batch: Batch, generator: torch.Generator) -> Tensor:
    """log p(x_i | x_<i, cond) of an autoregressive model in training: (B, L) -> (B, L), 0 in place
    of what is beyond an item's end.

    On CPUs; elsewhere all are computed as they stand, since shapes that change from step to step
    cost more there than they save.
    """

    def told(tokens: Tensor, cond: dict[str, Tensor], **only: Tensor) -> Tensor:
        context = model.embedded(cond, len(tokens), generator)
        found: Tensor = model.log_probs(tokens, context, **only)
        return found

    num = len(tokens) // TOGETHER
    ends = model.spec.end is not None and batch.mask is None
    on_cpu = model.shortens and tokens.device.type == "cpu"
    if not (ends and on_cpu and num > 1):
        weight = batch.weight if on_cpu else None
        if weight is None or weight.shape != tokens.shape:
            return told(tokens, batch.cond)
        return told(tokens, batch.cond, real=weight > 0)  # the rest counts for nothing
    lengths = model.spec.num_real(batch.x).long()
    log_p = torch.zeros(tokens.shape)
    for rows in lengths.argsort(stable=True).chunk(num):
        longest = int(lengths[rows[-1]])
        own = {name: value[rows] for name, value in batch.cond.items()}
        real = torch.arange(longest) < lengths[rows, None]
        log_p[rows, :longest] = told(tokens[rows, :longest], own, real=real)
    return log_p
