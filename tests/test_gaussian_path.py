"""The Gaussian path: conversions are inverses, slopes are derivatives, sampling is exact."""

from __future__ import annotations

import pytest
import torch

from morphogen.core.gaussian_path import DenoiserSampling, GaussianPath
from morphogen.core.random import generator
from morphogen.core.spec import TensorSpec
from morphogen.testing.oracles import GaussianOracle

PATHS = [GaussianPath("straight"), GaussianPath("cosine")]
paths = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.kind)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


@paths
def test_ends(path: GaussianPath) -> None:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert torch.allclose(path.alpha(ends), torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert torch.allclose(path.sigma(ends), torch.tensor([0.0, 1.0], dtype=torch.float64))


@paths
def test_slopes_are_the_derivatives(path: GaussianPath) -> None:
    t = torch.linspace(0.05, 0.95, 13, dtype=torch.float64, requires_grad=True)
    for value, slope in zip((path.alpha(t), path.sigma(t)), path.slopes(t), strict=True):
        (derivative,) = torch.autograd.grad(value.sum(), t)
        assert torch.allclose(derivative, slope)


@paths
def test_conversions_invert_each_other(path: GaussianPath) -> None:
    x, eps = draw(9, 2, 3), draw(9, 2, 3, seed=1)
    t = torch.linspace(0.01, 0.99, 9, dtype=torch.float64)
    x_t, v = path.noised(x, eps, t), path.velocity(x, eps, t)
    assert torch.allclose(path.x_from_velocity(v, x_t, t), x)
    assert torch.allclose(path.eps_from_x(x, x_t, t), eps)


@paths
def test_x_from_velocity_holds_at_both_ends(path: GaussianPath) -> None:
    x, eps = draw(2, 3), draw(2, 3, seed=1)
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    back = path.x_from_velocity(path.velocity(x, eps, t), path.noised(x, eps, t), t)
    assert torch.allclose(back, x)


@paths
def test_velocity_is_the_slope_of_the_path(path: GaussianPath) -> None:
    x, eps = draw(1, 4), draw(1, 4, seed=1)
    t, step = torch.tensor([0.37], dtype=torch.float64), 1e-6
    slope = (path.noised(x, eps, t + step) - path.noised(x, eps, t - step)) / (2 * step)
    assert torch.allclose(slope, path.velocity(x, eps, t), atol=1e-8)


@paths
def test_time_of_sigma(path: GaussianPath) -> None:
    for ratio in (0.01, 0.5, 1.0, 7.0):
        t = torch.tensor(path.time_of_sigma(ratio), dtype=torch.float64)
        assert float(path.sigma(t) / path.alpha(t)) == pytest.approx(ratio)


@paths
@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("start", [1.0, 0.4])
def test_times_fall_from_start_to_zero(path: GaussianPath, shift: float, start: float) -> None:
    times = path.times(10, start, shift)
    assert len(times) == 11
    assert float(times[0]) == pytest.approx(start)
    assert float(times[-1]) == 0
    assert (times.diff() < 0).all()
    middle = float(times[5]) / start
    assert (middle > 0.5) == (shift > 1) or shift == 1


class OracleSampling(DenoiserSampling):
    """The generic sampling, with the exact denoiser."""

    def __init__(self, oracle: GaussianOracle, sampler: str) -> None:
        self.path, self.spec, self.denoise = oracle.path, oracle.spec, oracle.denoise
        self.sampler, self.num_steps = sampler, 40


@paths
@pytest.mark.parametrize("sampler", ["heun", "dpm_solver", "ancestral"])
def test_sampling_reaches_the_data(path: GaussianPath, sampler: str) -> None:
    oracle = GaussianOracle.example()
    oracle.path = path
    x = OracleSampling(oracle, sampler).sample(6000, generator=generator(0), num_steps=80)
    spread = oracle.variances.sqrt().max()
    assert ((x.mean(0) - oracle.mean).abs() / spread).max() < 0.07
    assert ((torch.cov(x.T) - oracle.covariance).abs() / spread**2).max() < 0.15


def test_samples_of_data_with_levels_stay_in_range() -> None:
    oracle = GaussianOracle(torch.full((4,), 0.9), torch.eye(4))
    oracle.spec = TensorSpec("real", (4,), levels=256, layout="vector")
    assert OracleSampling(oracle, "euler").sample(64, generator=generator(0)).abs().max() <= 1
