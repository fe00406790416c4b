"""The directions in which vectors vary most (Pearson 1901), for the tasks that lay items out.

Legend: N vectors, D their dimension, K directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Directions:
    """The first K principal directions, and where the vectors lie along them."""

    mean: Tensor  # (D,)
    along: Tensor  # (K, D), each of length 1; zeros where there are fewer
    scores: Tensor  # (N, K)
    share: float  # of the variance of the vectors that lies along these

    @property
    def spread(self) -> Tensor:
        """The standard deviation along each, (K,)."""
        return self.scores.std(0, correction=0)


def principal_directions(vectors: Tensor, num: int) -> Directions:
    """Of vectors (N, D), the first `num`.

    Each direction points to where its largest vector lies, so that the sign is not left to chance.
    """
    mean = vectors.mean(0)
    u, s, along = torch.linalg.svd(vectors - mean, full_matrices=False)
    scores, missing = u[:, :num] * s[:num], max(num - len(s), 0)
    largest = scores.gather(0, scores.abs().argmax(0, keepdim=True))  # (1, K)
    sign = torch.where(largest < 0, -1.0, 1.0).to(vectors)
    total = s.square()
    share = float(total[:num].sum() / total.sum().clamp(min=1e-12))
    return Directions(
        mean, F.pad(along[:num] * sign.T, (0, 0, 0, missing)), F.pad(scores * sign, (0, missing)),
        share,
    )  # fmt: skip
