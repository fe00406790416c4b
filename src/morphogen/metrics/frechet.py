r"""Frechet distance between Gaussians fitted to two sets of features.

    d^2 = |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))

(S_1 S_2)^(1/2) need not be symmetric, but its trace is the sum of the square roots of the
eigenvalues of S_1^(1/2) S_2 S_1^(1/2), which is: two symmetric eigenproblems in float64, stable
when a covariance is singular (fewer items than features). Dowson & Landau 1982.

Over Inception-v3 features this is FID (Heusel et al. 2017), and over no others: name the features.
The estimate is biased upwards by about tr(S) / n: compare sets of equal size only.

Legend: N items, D features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from morphogen.core.metric import Features, check_features, scores


def few_items(sets: Features, high: float) -> str:
    """Say so where the bias is large: fewer items than twice the number of features."""
    (num, dim), num_reference = sets.generated.shape, len(sets.reference)
    if min(num, num_reference) >= 2 * dim:
        return ""
    return (
        f"n is small: {num} items against {num_reference} for {dim} "
        "features. The distance is biased upwards: read the ratio, and compare equal n only"
    )


@scores(caution=few_items, frechet=False)
def frechet(sets: Features, *, generator: torch.Generator | None = None) -> Mapping[str, float]:
    """Frechet distance (squared) between two sets of features (N, D) and (M, D); 0 is best."""
    return {"frechet": frechet_distance(sets.generated, sets.reference)}


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """The distance as a number, for those who want nothing else. Raises `MeasurementError`."""
    check_features(Features(features, reference))
    mu_1, root_1, trace_1 = _moments(features)
    mu_2, root_2, trace_2 = _moments(reference)
    # The singular values of S_1^(1/2) S_2^(1/2) are the roots of the eigenvalues of the product
    # above, without the loss of half the digits that squaring costs.
    overlap = torch.linalg.svdvals(root_1 @ root_2).sum()
    distance = (mu_1 - mu_2).square().sum() + trace_1 + trace_2 - 2 * overlap
    return max(float(distance), 0.0)


def _moments(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), square root of the covariance (D, D), and its trace, in float64."""
    x = features.double()
    mu = x.mean(0)
    centred = x - mu
    covariance = centred.T @ centred / (len(x) - 1)
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp(min=0)  # rounding leaves -1e-17 where there should be 0
    return mu, (vectors * values.sqrt()) @ vectors.T, values.sum()
