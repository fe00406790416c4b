"""Bands that a share of draws lies in: what a model that draws is sure of.

Of n draws and the truth, all from one distribution, the truth is as likely to have any of the n + 1
ranks. So the k-th smallest draw has a share k / (n + 1) of the truth below it, whatever n is.

Legend: N items, S draws.
"""

from __future__ import annotations

import torch
from torch import Tensor


def band(draws: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """The ends of the middle band that holds a share `level` of what may come: (N, S, *), value by
    value -> (N, *) twice. Of too few draws for that, the smallest and the largest."""
    tail = (1 - level) / 2
    return quantile(draws, tail), quantile(draws, 1 - tail)


def quantile(draws: Tensor, share: float) -> Tensor:
    """The value that a share of what may come lies below: (N, S, *) -> (N, *)."""
    num = draws.shape[1]
    place = min(max(share * (num + 1) - 1, 0.0), num - 1.0)
    ordered = draws.sort(1).values
    below = int(place)
    above = min(below + 1, num - 1)
    return torch.lerp(ordered[:, below], ordered[:, above], place - below)
