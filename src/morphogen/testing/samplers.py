r"""The promises of a sampler: `sampler(denoise, x, times, path, generator) -> x`.

Held to Gaussian data, where the denoiser is exact and the probability-flow ODE has the solution
`GaussianOracle.transport`. A deterministic sampler must converge to it at the order it claims: the
error falls like h^p. A stochastic one must reach the data's mean and covariance.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from morphogen.core.gaussian_path import GaussianPath
from morphogen.core.random import generator
from morphogen.testing._promises import check_described, leaves_global_rng, promise, works
from morphogen.testing.oracles import GaussianOracle

ARGUMENTS = ("denoise", "x", "times", "path", "generator")


def check_sampler(sampler: Callable[..., Any], order: float | None = None) -> None:
    """Hold a sampler to its contract; `order` is the order of convergence that it claims.

    The default is the sampler's attribute `order`, else 1.
    """
    name = sampler.__name__
    check_described(sampler)
    given = tuple(inspect.signature(sampler).parameters)[:5]
    promise(given == ARGUMENTS, f"{name} takes {given}, not {ARGUMENTS}")
    claimed = order if order is not None else float(getattr(sampler, "order", 1))
    for path in (GaussianPath("straight"), GaussianPath("cosine")):
        oracle = _double(GaussianOracle.example(), path)
        where = f"{name} on the {path.kind} path"
        with works(where):
            first, again = (_run(sampler, oracle, 8, draws=64, seed=1) for _ in range(2))
            other = _run(sampler, oracle, 8, draws=64, seed=2)
        promise(torch.equal(first, again), f"{where} is not repeatable with one generator seed")
        promise(first.shape == (64, 3), f"{where} returns shape {tuple(first.shape)}")
        promise(torch.isfinite(first).all(), f"{where} is not finite")
        if torch.equal(first, other):
            _check_order(sampler, oracle, claimed, where)
        else:
            _check_moments(sampler, oracle, where)


def _check_order(
    sampler: Callable[..., Any], oracle: GaussianOracle, claimed: float, where: str
) -> None:
    """Doubling the steps divides the error by 2^order; the limit is the exact transport.

    The order is measured inside the path: solvers in log(alpha / sigma) are of lower order in the
    steps at its two ends, where that is infinite.
    """
    noise = _noise(64)
    far = float((_run(sampler, oracle, 160, noise=noise) - oracle.transport(noise)).abs().mean())
    promise(far < 0.01, f"{where} misses the solution of the ODE by {far:.2g} in 160 steps")
    errors = []
    start, end = 0.9, 0.1
    exact = oracle.transport(noise, start, end)
    for steps in (80, 160):
        times = torch.linspace(start, end, steps + 1, dtype=torch.float64)
        errors.append(float((_run(sampler, oracle, times, noise=noise) - exact).abs().mean()))
    measured = math.log2(errors[0] / max(errors[1], 1e-12))
    promise(
        measured > claimed - 0.2 or errors[1] < 1e-9,
        f"{where} converges at order {measured:.2f}, but claims {claimed}",
    )


def _check_moments(sampler: Callable[..., Any], oracle: GaussianOracle, where: str) -> None:
    x = _run(sampler, oracle, 200, draws=4000, seed=3)
    spread = oracle.variances.sqrt().max()
    error = (x.mean(0) - oracle.mean).abs().max() / spread
    promise(error < 0.1, f"{where} misses the data's mean by {float(error):.2f} deviations")
    gap = (torch.cov(x.T) - oracle.covariance).abs().max() / spread**2
    promise(gap < 0.15, f"{where} misses the data's covariance by a share of {float(gap):.2f}")


def _run(
    sampler: Callable[..., Any],
    oracle: GaussianOracle,
    steps: int | Tensor,
    *,
    noise: Tensor | None = None,
    draws: int = 64,
    seed: int = 0,
) -> Tensor:
    x = _noise(draws) if noise is None else noise
    with leaves_global_rng(sampler.__name__), torch.no_grad():
        times = oracle.path.times(steps) if isinstance(steps, int) else steps
        result: Tensor = sampler(oracle.denoise, x.clone(), times, oracle.path, generator(seed))
    return result


def _noise(draws: int) -> Tensor:
    return torch.randn((draws, 3), generator=generator(9), dtype=torch.float64)


def _double(oracle: GaussianOracle, path: GaussianPath) -> GaussianOracle:
    """In float64, so that rounding does not hide the order."""
    double = oracle.double()
    double.path = path
    return double
