"""Which tokens may be drawn, and how likely each is made.

Legend: B batch, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor


def limited(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Logits (B, V) sharpened by 1 / temperature (0: the most probable), with the rest cut off.

    `top_k` keeps the k most probable tokens; `top_p` the fewest whose probabilities reach p.
    """
    if temperature <= 0:
        top_k = 1
    else:
        logits = logits / temperature
    if top_k is None and top_p is None:
        return logits
    ranked, order = logits.sort(dim=-1, descending=True, stable=True)
    cut = torch.zeros_like(ranked, dtype=torch.bool)
    if top_k is not None:
        cut[:, max(top_k, 1) :] = True
    if top_p is not None:
        probs = ranked.softmax(-1)
        cut |= probs.cumsum(-1) - probs >= top_p
    return logits.masked_fill(cut.scatter(-1, order, cut), -torch.inf)
