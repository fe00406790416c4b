"""Rotary positions over more places than a network was first trained on.

Legend: E features of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def slowed(head_dim: int, base: float, scaling: Sequence[float]) -> Tensor:
    """What each frequency is multiplied by: (E / 2,).

    With `scaling` (s, low, high, L) frequencies that turn less than `low` times within L places are
    divided by s, those that turn more than `high` times are kept, and between them it goes over
    from the one to the other (Llama 3.1, Grattafiori et al. 2024).
    """
    s, low, high, length = scaling
    frequency = base ** (-torch.arange(head_dim // 2) / (head_dim // 2))
    turns = length * frequency / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept + (1 - kept) / s
