r"""Density and coverage: how many reference balls hold each generated item; how many hold one.

    density  = 1/(k N) sum_j |{ x_i : |y_j - x_i| <= r_k(x_i) }|
    coverage = 1/M |{ x_i : some y_j has |y_j - x_i| <= r_k(x_i) }|

r_k(x_i) is the distance of a reference item to its k-th neighbour. Naeem et al. 2020, with their
k = 5; the balls are closed. Only the reference has balls, so that an outlier among generated items
gains nothing, and one among reference items counts once in place of for every item.

For two draws of one distribution the density is 1 on average, and the coverage
1 - (M - 1) ... (M - k) / ((M + N - 1) ... (M + N - k)), about 1 - 2^-k for N = M, whatever the
distribution. A density above 1 is possible and no better than 1: items crowd where data is dense,
as those of a model do that draws only the commonest kinds. So it describes, and has no direction.

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


@scores(density=None, coverage=True)
def density_coverage(
    sets: Features,
    *,
    generator: torch.Generator | None = None,
    num_neighbours: int = 5,  # balls reach to this neighbour: more is more lenient
) -> Mapping[str, float]:
    """How dense data is around generated items (1 as in data), and the share of data covered."""
    check_informative(sets, fewest=1)
    check_neighbours(num_neighbours, reference=sets.reference)
    y, x = centred(sets.generated, sets.reference)
    radii = squared_radii(x, num_neighbours)
    inside, covered = 0, torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for _, squares in squared_distances(y, x):  # (rows of y, M)
        hits = squares <= radii
        inside += int(hits.sum())
        covered |= hits.any(0)
    density = inside / (num_neighbours * len(y))
    return {"density": density, "coverage": float(covered.double().mean())}
