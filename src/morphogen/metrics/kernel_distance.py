r"""Kernel distance: squared maximum mean discrepancy under a cubic kernel, without bias.

    k(a, b) = (<a, b> / D + 1)^3
    d = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

It compares the first three moments, joint ones included. The expectation is the distance of the
distributions at any number of items, so that sets of other sizes compare; an estimate may be below
0 where that is 0. Gretton et al. 2012; over Inception-v3 features, and over no others, it is KID
(Binkowski et al. 2018).

Up to `max_items` items every pair counts. Larger sets are dealt at random into parts of at most so
many, and the distance of part to part is averaged, which is as unbiased: the cost grows with the
number of items and not with its square.

Legend: N generated items y, M reference items x, D features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from morphogen.core.errors import MeasurementError
from morphogen.core.metric import Features, scores
from morphogen.metrics._parts import check_informative, shuffled

BLOCK_VALUES = 2**20  # kernel values in a block: 8 MB


@scores(kernel_distance=False)
def kernel_distance(
    sets: Features,
    *,
    generator: torch.Generator | None = None,
    max_items: int = 10_000,  # larger sets are compared in random parts of at most so many
) -> Mapping[str, float]:
    """Squared kernel distance between two sets of features (N, D) and (M, D); 0 is best."""
    check_informative(sets)
    y, x = sets.generated, sets.reference
    if max_items < 2:
        raise MeasurementError("parts too small to measure", found=max_items, expected=">= 2")
    larger, smaller = max(len(x), len(y)), min(len(x), len(y))
    num_parts = min(-(-larger // max_items), smaller // 2)
    if num_parts > 1:
        y, x = shuffled(y, generator), shuffled(x, generator)
    parts = zip(y.tensor_split(num_parts), x.tensor_split(num_parts), strict=True)
    return {"kernel_distance": sum(squared_mmd(a, b) for a, b in parts) / num_parts}


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate from every pair, in float64."""
    x, y = x.double(), y.double()
    return _mean_within(x) + _mean_within(y) - 2 * _kernel_sum(x, y) / (len(x) * len(y))


def _mean_within(x: Tensor) -> float:
    """Mean of k over pairs of two different items."""
    own = float((x.square().sum(1) / x.shape[1] + 1).pow(3).sum())
    return (_kernel_sum(x, x) - own) / (len(x) * (len(x) - 1))


def _kernel_sum(x: Tensor, y: Tensor) -> float:
    """Sum of k over all pairs, a block of rows at a time."""
    one = x.new_ones(())
    total = 0.0
    step = max(1, BLOCK_VALUES // len(y))
    for start in range(0, len(x), step):
        block = x[start : start + step]
        values = torch.addmm(one, block, y.T, alpha=1 / x.shape[1])  # (rows, M)
        total += float(values.pow_(3).sum())
    return total
