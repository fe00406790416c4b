"""The Frechet distance against closed forms and against scipy's matrix square root."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from morphogen.core.errors import MeasurementError
from morphogen.core.metric import Features
from morphogen.core.random import generator, randn
from morphogen.metrics.frechet import frechet, frechet_distance


def exact_sample(mu: torch.Tensor, cov: torch.Tensor, num: int, seed: int) -> torch.Tensor:
    """Items whose sample mean and covariance are exactly mu and cov."""
    z = randn((num, len(mu)), generator(seed)).double()
    z = z - z.mean(0)
    whitened = z @ torch.linalg.inv(torch.linalg.cholesky(z.T.cov())).T
    return mu + whitened @ torch.linalg.cholesky(cov).T


def random_cov(dim: int, seed: int) -> torch.Tensor:
    a = randn((dim, dim), generator(seed)).double()
    return a @ a.T + 0.1 * torch.eye(dim).double()


def test_closed_form_of_isotropic_gaussians() -> None:
    # |mu_1 - mu_2|^2 + D (s_1 - s_2)^2
    eye = torch.eye(5).double()
    a = exact_sample(torch.zeros(5).double(), 4 * eye, 100, 0)
    b = exact_sample(torch.full((5,), 3.0).double(), 0.25 * eye, 80, 1)
    assert frechet_distance(a, b) == pytest.approx(5 * 9 + 5 * 1.5**2, rel=1e-9)


def test_agrees_with_the_matrix_square_root() -> None:
    s1, s2 = random_cov(6, 0), random_cov(6, 1)
    mu1, mu2 = randn((2, 6), generator(2)).double()
    a, b = exact_sample(mu1, s1, 50, 3), exact_sample(mu2, s2, 60, 4)
    cross = np.real(np.trace(sqrtm((s1 @ s2).numpy())))
    expected = float((mu1 - mu2).square().sum() + s1.trace() + s2.trace()) - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


def test_zero_for_identical_sets_symmetric_and_invariant() -> None:
    a = randn((40, 7), generator(0)) @ randn((7, 7), generator(1))
    b = randn((50, 7), generator(2))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    rotation = torch.linalg.qr(randn((7, 7), generator(3)).double()).Q
    moved = [x.double() @ rotation + 5 for x in (a, b)]
    assert frechet_distance(*moved) == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_singular_covariances_are_exact() -> None:
    # Fewer items than features, and features that never vary.
    a = torch.zeros(5, 20)
    a[:, :2] = randn((5, 2), generator(0))
    assert frechet_distance(a, a.clone()) == pytest.approx(0, abs=1e-10)
    shifted = a + torch.eye(20)[3]
    assert frechet_distance(a, shifted) == pytest.approx(1, rel=1e-9)
    constant = torch.zeros(5, 20)
    spread = a.double().var(0).sum() + a.double().mean(0).square().sum()
    assert frechet_distance(a, constant) == pytest.approx(float(spread), rel=1e-9)


def test_features_that_are_not_finite_few_or_of_other_width_are_refused() -> None:
    good = randn((5, 3), generator(0))
    bad = good.clone()
    bad[2, 1] = float("nan")
    with pytest.raises(MeasurementError, match="1 of 5"):
        frechet_distance(bad, good)
    with pytest.raises(MeasurementError, match="too few held-out items"):
        frechet_distance(good, good[:1])
    with pytest.raises(MeasurementError, match="do not fit"):
        frechet_distance(good, good[:, :2])


def test_the_metric_names_its_score_and_direction() -> None:
    a, b = randn((5, 3), generator(0)), randn((6, 3), generator(1))
    assert frechet(Features(a, b)) == {"frechet": frechet_distance(a, b)}
    assert frechet.higher_is_better == {"frechet": False}
