r"""Moving items along a model's Gaussian path, for the tasks that take the denoising route.

    x_t = alpha_t x + sigma_t eps,   dx_t/dt = alpha' xhat + sigma' (x_t - alpha xhat) / sigma,

with xhat = E[x | x_t] from the model: the probability-flow equation (Song et al. 2021). It is
deterministic and runs both ways, so it gives every item a noise of its own, and back.

Legend: B batch, * the spec's shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.capability import CanDenoise
from morphogen.core.gaussian_path import DenoiserSampling
from morphogen.core.random import generator as new_generator
from morphogen.tasks._routes import Conditions

NEAREST = 0.01  # the least t that is integrated to; from there one denoising step gives the data


class _Integrator(DenoiserSampling):
    """Integration for a model that has `denoise`, `path` and `spec`, and nothing else."""

    def __init__(self, model: Any) -> None:
        self.path, self.spec, self.denoise = model.path, model.spec, model.denoise


def integrate(
    model: CanDenoise,
    x_t: Tensor,
    start: float,
    *,
    cond: Conditions | None,
    generator: torch.Generator,
    num_steps: int | None = None,
    sampler: str | None = None,
    correct: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """From x_t (B, *) at t = `start` to data, with the model's own sampler where it has one."""
    solver: Any = model if hasattr(model, "integrate") else _Integrator(model)
    return solver.integrate(
        x_t, start, cond=cond, generator=generator, num_steps=num_steps,
        sampler=sampler, correct=correct,
    )  # fmt: skip


def to_noise(model: CanDenoise, x: Tensor, cond: Conditions | None, num_steps: int) -> Tensor:
    """Data to the noise that it comes from, along the probability-flow equation. (B, *)."""
    times = torch.linspace(NEAREST, 1, num_steps + 1).to(x)
    # Below NEAREST the noise is too faint to be estimated: there x_t is alpha x.
    return _flow(model, model.path.alpha(times[0]) * x, times, cond)


def from_noise(model: CanDenoise, noise: Tensor, cond: Conditions | None, num_steps: int) -> Tensor:
    """Inverse of `to_noise` as num_steps grows. (B, *)."""
    times = torch.cat([torch.linspace(1, NEAREST, num_steps + 1), torch.zeros(1)]).to(noise)
    return in_range(model, _flow(model, noise, times, cond))


def in_range(model: object, x: Tensor) -> Tensor:
    """x within [-1, 1] where the data has levels, and so no values outside."""
    spec = getattr(model, "spec", None)
    return x.clamp(-1, 1) if spec is not None and spec.levels else x


def _flow(model: CanDenoise, x_t: Tensor, times: Tensor, cond: Conditions | None) -> Tensor:
    """Heun's method over `times`, which runs in either direction."""
    solve: Any = discover.find("sampler", "heun")
    unused = new_generator(0)  # the solver is deterministic
    return solve(lambda x, t: model.denoise(x, t, cond), x_t, times, model.path, unused)
