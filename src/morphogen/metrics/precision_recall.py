r"""Precision and recall: are generated items where data is, and is data where generated items are?

    precision = 1/N |{ y : some x_i has |y - x_i| <= r_k(x_i) }|
    recall    = 1/M |{ x : some y_j has |x - y_j| <= r_k(y_j) }|

A distribution's support is estimated by balls around its items that reach to the k-th neighbour of
each, r_k. Precision falls when items look like no data, recall when kinds of data are missing.
Kynkaanniemi et al. 2019, with their k = 3; the balls are closed, as theirs are.

Two draws of one distribution score less than 1, the less the fewer items there are for the number
of features: read the score beside its floor, and compare sets of equal size only. One far outlier
of the reference has a large ball and flatters precision: see density and coverage.

Legend: N generated items y, M reference items x, D features, k which neighbour.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from morphogen.core.metric import Features, scores
from morphogen.metrics._neighbours import (
    centred,
    check_neighbours,
    squared_distances,
    squared_radii,
)
from morphogen.metrics._parts import check_informative


@scores(precision=True, recall=True)
def precision_recall(
    sets: Features,
    *,
    generator: torch.Generator | None = None,
    num_neighbours: int = 3,  # balls reach to this neighbour: more is more lenient
) -> Mapping[str, float]:
    """Shares of generated items among data, and of data among generated items; 1 is best."""
    check_informative(sets)
    check_neighbours(num_neighbours, features=sets.generated, reference=sets.reference)
    y, x = centred(sets.generated, sets.reference)
    y_radii, x_radii = squared_radii(y, num_neighbours), squared_radii(x, num_neighbours)
    precise, recalled = 0, torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for block, squares in squared_distances(y, x):  # (rows of y, M)
        precise += int((squares <= x_radii).any(1).sum())
        recalled |= (squares <= y_radii[block, None]).any(0)
    return {"precision": precise / len(y), "recall": float(recalled.double().mean())}
