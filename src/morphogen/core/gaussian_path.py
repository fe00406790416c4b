r"""The Gaussian path that diffusion and flow matching share, and sampling along it.

    x_t = alpha_t x + sigma_t eps,   eps ~ N(0, I),   t = 0 data, t = 1 noise.

    straight  alpha = 1 - t         sigma = t              (flow matching, Lipman et al. 2023)
    cosine    alpha = cos(pi t/2)   sigma = sin(pi t/2)    (diffusion, Nichol & Dhariwal 2021)

All that a network can be asked for is one linear map away from E[x | x_t]:

    eps = (x_t - alpha x) / sigma,     v = alpha' x + sigma' eps  (the velocity dx_t/dt),

so the contract is the denoiser, E[x | x_t], and samplers know nothing of what was predicted.

Legend: B batch, * the spec's shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.random import randn
from morphogen.core.spec import TensorSpec

Denoise = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, *), t (B,)) -> E[x | x_t] (B, *)


@dataclass(frozen=True)
class GaussianPath:
    """alpha(t) and sigma(t), and the conversions between what networks predict."""

    kind: Literal["straight", "cosine"] = "straight"

    def alpha(self, t: Tensor) -> Tensor:
        """How much data is left at t."""
        return 1 - t if self.kind == "straight" else torch.cos(t * (math.pi / 2))

    def sigma(self, t: Tensor) -> Tensor:
        """How much noise there is at t."""
        return t if self.kind == "straight" else torch.sin(t * (math.pi / 2))

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha'(t), sigma'(t))."""
        if self.kind == "straight":
            return -torch.ones_like(t), torch.ones_like(t)
        half_pi = math.pi / 2
        return -half_pi * torch.sin(t * half_pi), half_pi * torch.cos(t * half_pi)

    def noised(self, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t."""
        return wide(self.alpha(t), x) * x + wide(self.sigma(t), x) * eps

    def velocity(self, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """v = alpha' x + sigma' eps."""
        d_alpha, d_sigma = self.slopes(t)
        return wide(d_alpha, x) * x + wide(d_sigma, x) * eps

    def x_from_velocity(self, v: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Solve x_t and v for x: (sigma' x_t - sigma v) / (alpha sigma' - alpha' sigma).

        The determinant is 1 for the straight path and pi/2 for the cosine: never near zero.
        """
        alpha, sigma = self.alpha(t), self.sigma(t)
        d_alpha, d_sigma = self.slopes(t)
        determinant = alpha * d_sigma - d_alpha * sigma
        return (wide(d_sigma, v) * x_t - wide(sigma, v) * v) / wide(determinant, v)

    def eps_from_x(self, x: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The noise that x_t would hold if the data were x (t > 0)."""
        return (x_t - wide(self.alpha(t), x) * x) / wide(self.sigma(t).clamp(min=1e-5), x)

    def time_of_sigma(self, sigma_over_alpha: float) -> float:
        """The t at which noise stands to data as `sigma_over_alpha`."""
        if self.kind == "straight":
            return sigma_over_alpha / (1 + sigma_over_alpha)
        return math.atan(sigma_over_alpha) * 2 / math.pi

    def time_of_log_snr(self, log_snr: Tensor) -> Tensor:
        """The t at which 2 log(alpha / sigma) is `log_snr`."""
        ratio = torch.exp(-0.5 * log_snr)
        if self.kind == "straight":
            return ratio / (1 + ratio)
        return torch.atan(ratio) * (2 / math.pi)

    def times(self, num_steps: int, start: float = 1.0, shift: float = 1.0) -> Tensor:
        """num_steps + 1 times from `start` down to 0.

        `shift` > 1 spends more of them at high noise: t -> shift t / (1 + (shift - 1) t).
        """
        u = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
        return start * shift * u / (1 + (shift - 1) * u)


class DenoiserSampling:
    """Sampling for whatever has `path`, `spec` and `denoise`.

    Families and the guidance wrapper inherit it: guided sampling is sampling with another denoiser.
    """

    path: GaussianPath
    spec: TensorSpec
    sampler: str = "heun"
    num_steps: int = 25
    time_shift: float = 1.0
    denoise: Callable[..., Tensor]
    device: Any = torch.device("cpu")

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
        num_steps: int | None = None,
        sampler: str | None = None,
    ) -> Tensor:
        """Integrate from noise at t = 1 to data at t = 0. (num, *shape)."""
        noise = self.starting_noise(num, generator)
        x = self.integrate(
            noise, 1.0, cond=cond, generator=generator, num_steps=num_steps, sampler=sampler
        )
        return self.grained(self.spread(x, cond))

    @torch.no_grad()
    def integrate(
        self,
        x_t: Tensor,
        start: float,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
        num_steps: int | None = None,
        sampler: str | None = None,
        correct: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """From x_t at t = `start` down to data. (B, *).

        `correct(x, t)` may amend each estimate of the data, which is how
        super-resolution holds on to what is known.
        """
        solve: Any = discover.find("sampler", sampler or self.sampler)
        cond = self.once(cond, len(x_t))

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            estimate = self.steer(x, t, cond)
            return estimate if correct is None else correct(estimate, t)

        steps = max(1, math.ceil((num_steps or self.num_steps) * min(1.0, start)))
        times = self.times(steps, start, self.time_shift).to(x_t.dtype).to(x_t.device)
        x: Tensor = solve(denoise, x_t, times, self.path, generator)
        return x.clamp(-1, 1) if self.spec.levels else x

    def starting_noise(self, num: int, generator: torch.Generator) -> Tensor:
        """What sampling starts from, (num, *shape): N(0, I), unless a model has a reason."""
        return randn((num, *self.spec.shape), generator).to(self.device)

    def times(self, num_steps: int, start: float, shift: float) -> Tensor:
        """The times of the sampling steps: the path's, unless a model has a reason."""
        return self.path.times(num_steps, start, shift)

    def spread(self, x: Tensor, cond: Mapping[str, Tensor] | None) -> Tensor:
        """Drawn items as wide about what is expected as they are to be: unless a model has a
        reason, as they are."""
        return x

    def grained(self, x: Tensor) -> Tensor:
        """Drawn items as they are handed out: as they are, unless a model has a reason."""
        return x

    def once(self, cond: Mapping[str, Tensor] | None, num: int) -> Mapping[str, Tensor] | None:
        """Conditions as all steps of a sampling take them: a model may embed them beforehand."""
        return cond

    def steer(self, x_t: Tensor, t: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """The estimate that sampling follows: E[x | x_t], unless a model has a reason."""
        return self.denoise(x_t, t, cond)


def wide(scalar: Tensor, like: Tensor) -> Tensor:
    """One number per item (B,), or one for all (), broadcastable against `like` (B, *), and of
    its type, on its device."""
    return scalar.view(-1, *(1,) * (like.dim() - 1)).to(like)
