r"""Vendi score: the effective number of different items in a set.

    K_ij = <x_i, x_j> / (|x_i| |x_j|),   l_1, ..., l_N the eigenvalues of K / N
    vendi = exp(-sum_i l_i log l_i)

1 when all items point the same way, N when all are at right angles; at most min(N, D). Friedman &
Dieng 2023. K / N has the eigenvalues of the D x D matrix X^T X / N over the normalised items X,
which is the smaller one when D < N. An item whose features are all 0 has no direction: it counts
as like others of that kind and as unlike the rest.

Both sets are measured, over equally many items because the score grows with their number. Only the
two side by side say something: fewer than the reference means that kinds of data are missing or
have shrunk; more is no better, for noise is the most diverse of all. So neither has a direction.

Legend: N generated items, M reference items, D features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from morphogen.core.metric import Features, scores
from morphogen.metrics._parts import check_informative, shuffled


@scores(vendi=None, vendi_reference=None)
def vendi(sets: Features, *, generator: torch.Generator | None = None) -> Mapping[str, float]:
    """Effective number of different items among the generated and among as many real ones."""
    check_informative(sets)
    both = {"vendi": sets.generated, "vendi_reference": sets.reference}
    num = min(map(len, both.values()))
    return {
        name: vendi_score(x if len(x) == num else shuffled(x, generator)[:num])
        for name, x in both.items()
    }


def vendi_score(x: Tensor) -> float:
    """The score of one set (N, D), all of it, in float64."""
    x = x.double()
    largest = x.abs().amax(1, keepdim=True)
    x = torch.cat([x, largest.masked_fill(largest != 0, 0) + (largest == 0)], dim=1)  # (N, D + 1)
    x = x / x.abs().amax(1, keepdim=True)  # so that the squares fit
    x = x / x.norm(dim=1, keepdim=True)
    gram = x.T @ x if x.shape[1] < len(x) else x @ x.T
    values = torch.linalg.eigvalsh(gram / len(x)).clamp(min=0)
    return float(torch.special.entr(values).sum().exp())
