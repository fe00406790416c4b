"""Which tokens may be drawn, and how likely each is made.

Legend: B batch, V vocabulary, n tokens that have come.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from morphogen.core.writing import Limits


def limited(
    logits: Tensor, limits: Limits, came: Sequence[Sequence[int]] = (), num_given: int = 0
) -> Tensor:
    """Logits (B, V) within `limits`, given the tokens that have come in each row, of which so many
    were not drawn: (B, V).

    Penalised are those that have come, and excluded those that would repeat a run of `no_repeat`;
    then logits are divided by the temperature (0: only the most probable is left); then all but the
    `top_k` most probable, the fewest that reach `top_p`, and those of at least `min_p` times the
    probability of the most probable are cut off.
    """
    if limits.looks_back:
        rows = [unrepeated(*row, limits, num_given) for row in zip(logits, came, strict=True)]
        logits = torch.stack(rows) if rows else logits
    if limits.temperature <= 0:
        return _only(logits, logits.argmax(-1, keepdim=True))
    logits = logits / limits.temperature
    if limits.min_p is not None:
        least = logits.amax(-1, keepdim=True) + math.log(max(limits.min_p, 1e-30))
        logits = logits.masked_fill(logits < least, -torch.inf)
    if limits.top_k is not None:
        most = min(max(limits.top_k, 1), logits.shape[-1])
        logits = _only(logits, logits.topk(most, dim=-1).indices)
    if limits.top_p is None:
        return logits
    ranked, order = logits.sort(dim=-1, descending=True, stable=True)
    probs = ranked.softmax(-1)
    cut = probs.cumsum(-1) - probs >= max(limits.top_p, 1e-30)
    return logits.masked_fill(cut.scatter(-1, order, cut), -torch.inf)


def _only(logits: Tensor, indices: Tensor) -> Tensor:
    """Logits (B, V) of the tokens at `indices` (B, k), the others excluded."""
    return torch.full_like(logits, -torch.inf).scatter_(-1, indices, logits.gather(-1, indices))


def unrepeated(logits: Tensor, came: Sequence[int], limits: Limits, num_given: int = 0) -> Tensor:
    """Logits (V,) with what has come, or what of it was drawn, made less likely, and repeated runs
    excluded."""
    if not limits.looks_back:
        return logits
    logits = logits.clone()
    if limits.repetition_penalty != 1 and came:
        already = torch.tensor(came, device=logits.device)
        logits[already] = logits[already] - math.log(limits.repetition_penalty)
    if (limits.frequency_penalty or limits.presence_penalty) and came[num_given:]:
        drawn = torch.tensor(came[num_given:], device=logits.device)
        tokens, times = torch.unique(drawn, return_counts=True)
        logits[tokens] -= limits.frequency_penalty * times + limits.presence_penalty
    if (before := limits.no_repeat - 1) >= 0 and len(came) >= before:
        last = list(came[len(came) - before :])
        repeats = {
            came[i + before]
            for i in range(len(came) - before)
            if list(came[i : i + before]) == last
        }
        logits[sorted(repeats)] = -torch.inf
    return logits
