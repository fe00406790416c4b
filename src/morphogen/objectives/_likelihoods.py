"""How probable items are by a model, so that the gradient reaches its weights.

Legend: N items, L tokens of an item.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from morphogen.core.batch import Batch, learned_length
from morphogen.core.capability import HasLogProb, HasTokenLogProb, log_prob_kind, missing
from morphogen.core.errors import RefusedPair
from morphogen.core.family import Family

KINDS = ("exact", "lower bound", "estimate of a lower bound")  # of log p, that can be learned by


def check_likelihood(family: Family, objective: object) -> None:
    """Raise `RefusedPair` for a family without a log probability that can be learned by."""
    name = type(objective).__name__
    found: Any = family
    if missing(family, HasLogProb):
        reason = "it has no log_prob"
    elif log_prob_kind(found) not in KINDS:
        reason = f"its log_prob is {found.log_prob_is}"
    else:
        return
    raise RefusedPair(
        f"{name} changes how probable items are, which {type(family).__name__} does not tell",
        found=reason,
        hint="a model of the family autoregressive, for one",
    )


def log_probs(family: Any, batch: Batch, seed: int) -> Tensor:
    """log p of the tokens of each item given those before, (N, L), where a family has them; else
    of each item, (N, 1). What is beyond an item's end, or has no weight, counts 0."""
    x, weight = batch.x, batch.weight
    own = {name: batch.cond[name] for name in family.conditions if name in batch.cond}
    if missing(family, HasTokenLogProb):
        draw = torch.Generator(device=family.device).manual_seed(seed)
        found: Tensor = family.log_prob(x, cond=own or None, generator=draw)[:, None]
    else:
        some: dict[str, Tensor] = {}
        if weight is not None and getattr(family, "shortens", False):  # reads items cut short
            last = max(int(learned_length(weight).max()), 1)
            x, weight = x[:, :last], weight[:, :last]
            some = {"weight": weight}
        found = family.token_log_prob(x, own or None, **some)
        found = found if weight is None else found * (weight.flatten(1) > 0)
    if torch.is_grad_enabled() and not found.requires_grad:
        raise RefusedPair(
            "the log probability of this family has no gradient",
            found=type(family).__name__,
            hint="a model of the family autoregressive, for one",
        )
    return found
