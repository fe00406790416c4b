r"""log p(x) of a denoiser on a Gaussian path, in two ways that need nothing but E[x | x_t].

By the probability-flow ODE, dx_t/dt = v(x_t, t), the law that deterministic samplers draw from:

    log p_0(x_0) = log p_1(x_1) + integral_0^1 div v(x_t, t) dt              (change of variables)
    div v ~ 1/S sum_s e_s . (dv/dx_t) e_s,   e_s in {-1, 1}^D                (Hutchinson 1990)

by the classic Runge-Kutta method on a fixed grid, four evaluations a step, with the same probes e_s
along a trajectory; the trace is exact for items of few values. (Grathwohl et al. 2019, Song et al.
2021, "Score-based generative modeling".)

By the variational bound, with the log signal-to-noise ratio lambda = 2 log(alpha_t / sigma_t):

    E log p_0(x_0) >= -H(q(x_0 | x)) - KL(q(x_1 | x) || p_1)
                      - 1/2 integral E || eps - eps_hat(x_t, t) ||^2 dlambda

(Kingma et al. 2021, "Variational diffusion models"). The integral is estimated at K noise levels,
one in each of K equal parts of the range (stratified). || eps ||^2 - D, whose mean is zero, is
taken off with the weight that it has for Gaussian data.

Here 0 is the least noise, x_0 = alpha (x + noise eps), and the item itself is one step further:

    log p(x) >= E_q [ log p_0(x_0) + log p(x | x_0) ] + H(q(x_0 | x)),   q(x_0 | x) = law of x_0

with p(x | x_0) a Gaussian of deviation `noise` around the denoised item, integrated over the level
where data has levels: the result is then a lower bound on the log *probability* of the levels, and
x_0 is the data dequantised by Gaussian noise (Ho et al. 2019). Uniform noise is the usual choice
(Theis et al. 2016), but it is narrower than any noise that denoisers are trained on. For continuous
data the ODE needs no such step: it gives the density at x.

Legend: B batch, * the spec's shape, D values in an item, K noise levels, S probes.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from morphogen.core.gaussian_path import Denoise, GaussianPath, wide
from morphogen.core.random import rand, randn
from morphogen.core.spec import TensorSpec

Method = Literal["ode", "bound"]

# sigma / alpha where the path begins. Less of it is nearer to the data and asks more of a network.
LEAST_DENSITY_NOISE = 0.01  # of the ODE on continuous data: off by (noise / deviation)^2 / 2
LEAST_NOISE = 0.02  # of the bound on continuous data
# With levels: below 0.05, networks trained by the usual laws of t predict eps worse than 0 does,
# at a bit per value on pictures. Few levels can be read off at a quarter of their width.
LEAST_LEVEL_NOISE, LEAST_SHARE_OF_LEVEL = 0.05, 0.25
# log (alpha / sigma)^2 where it ends.
LEAST_LOG_SNR = -8.0  # of the bound: what is left of x costs 2e-4 x^2 nats
LAST_LOG_SNR = -6.0  # of the ODE: beyond, errors in eps are large ones in x_hat
# The classic fourth-order method: where in the step each slope is taken, its share of the step, and
# how far it reaches for the next.
RUNGE_KUTTA = ((0, 1 / 6, 1 / 2), (1 / 2, 1 / 3, 1 / 2), (1 / 2, 1 / 3, 1), (1, 1 / 6, 0))
MOST_EXACT = 16  # values in an item up to which the trace is computed and not estimated
TYPICAL_LOG_VARIANCE = math.log(0.25)  # of data in [-1, 1], for the weight of the control variate


def log_prob_is(method: Method, spec: TensorSpec) -> str:
    """How the number is to be read, in the words of `HasLogProb`."""
    if method == "bound":
        return "lower bound (variational diffusion)"
    if spec.levels:
        return "estimate of a lower bound (probability-flow ODE, Gaussian dequantisation)"
    return "estimate (probability-flow ODE)"


@dataclass(frozen=True)
class PathLikelihood:
    """A denoiser on its path, over items of a spec, with the generator of every draw."""

    denoise: Denoise
    path: GaussianPath
    spec: TensorSpec
    generator: torch.Generator

    def ode(self, x: Tensor, num_steps: int, num_probes: int = 1) -> Tensor:
        """log p(x) in nats, by the change of variables along the ODE: (B, *) -> (B,)."""
        probes = _probes(x, num_probes, self.generator)
        if self.spec.levels is None:
            # Without noise in it, x moves by alpha' x alone: from p_0 to the density at x is
            # alpha^D.
            start = self.path.time_of_sigma(LEAST_DENSITY_NOISE)
            alpha = self.path.alpha(x.new_tensor(start))
            log_p = self._change_of_variables(alpha * x, start, num_steps, probes)
            return log_p + self.spec.num_values * alpha.log()
        start = self.path.time_of_sigma(self._least_noise)
        log_p, x_0, eps = self._reconstruction(x)
        sigma = self.path.sigma(x.new_tensor(start))
        log_q = -(0.5 * eps.square() + 0.5 * math.log(2 * math.pi) + sigma.log()).flatten(1).sum(1)
        return self._change_of_variables(x_0, start, num_steps, probes) + log_p - log_q

    def bound(self, x: Tensor, num_steps: int) -> Tensor:
        """The variational bound on log p(x), in nats, from `num_steps` noise levels: (B,)."""
        low, high = LEAST_LOG_SNR, -2 * math.log(self._least_noise)
        # KL(N(alpha x, sigma^2) || N(0, sigma^2)) where the noise is most.
        prior = 0.5 * math.exp(low) * x.flatten(1).square().sum(1)
        error = x.new_zeros(len(x))
        for level in range(num_steps):
            part = (level + rand((len(x),), self.generator).to(x)) / num_steps
            log_snr = low + (high - low) * part
            eps, t = randn(x.shape, self.generator).to(x), self.path.time_of_log_snr(log_snr)
            x_t = self.path.noised(x, eps, t)
            eps_hat = self.path.eps_from_x(self.denoise(x_t, t), x_t, t)
            weight = torch.sigmoid(log_snr + TYPICAL_LOG_VARIANCE).square()
            surplus = eps.flatten(1).square().sum(1) - self.spec.num_values
            error = error + (eps - eps_hat).flatten(1).square().sum(1) - weight * surplus
        diffusion = 0.5 * (high - low) / num_steps * error
        # The entropy of q(x_0 | x) in the first step is the one that the KL terms have taken off.
        log_p, *_ = self._reconstruction(x)
        return log_p - prior - diffusion

    # -- the item, given it with the least noise -------------------------------------------------

    @property
    def _least_noise(self) -> float:
        """sigma / alpha where the path begins, but for the ODE on continuous data."""
        if self.spec.levels is None:
            return LEAST_NOISE
        return max(LEAST_LEVEL_NOISE, LEAST_SHARE_OF_LEVEL * self.spec.level_width)

    def _reconstruction(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log p(x | x_0) (B,) for one draw of x_0 (B, *), and its eps.

        p(x | x_0) = N(x; x_hat(x_0), noise^2), over x's level where there are levels; the first
        level reaches to -inf and the last to inf.
        """
        noise = self._least_noise
        eps = randn(x.shape, self.generator).to(x)
        t = x.new_full((len(x),), self.path.time_of_sigma(noise))
        x_0 = self.path.noised(x, eps, t)
        centred = (x - self.denoise(x_0, t)) / noise
        if self.spec.levels is None:
            log_p = -0.5 * (centred.square() + math.log(2 * math.pi)) - math.log(noise)
        else:
            half = 0.5 * self.spec.level_width
            infinity = torch.full_like(x, math.inf)
            lower = torch.where(x < half - 1, -infinity, centred - half / noise)
            upper = torch.where(x > 1 - half, infinity, centred + half / noise)
            log_p = _log_normal_mass(lower, upper)
        return log_p.flatten(1).sum(1), x_0, eps

    # -- the ODE ---------------------------------------------------------------------------------

    def _change_of_variables(
        self, x_t: Tensor, start: float, num_steps: int, probes: list[Tensor]
    ) -> Tensor:
        """log p of x_t at time `start`: carried to where only noise is left, whose law is known."""
        end = float(self.path.time_of_log_snr(torch.tensor(LAST_LOG_SNR)))
        # Closer together where there is little noise, and the velocity turns most.
        grid = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64).square()
        times = (start + (end - start) * grid).to(x_t)
        integral = x_t.new_zeros(len(x_t))
        for t, s in itertools.pairwise(times):
            step, at, ahead = s - t, x_t, x_t
            for where, share, reach in RUNGE_KUTTA:
                time = (t + where * step).expand(len(x_t))
                velocity, divergence = self._velocity(at, time, probes)
                ahead = ahead + share * step * velocity
                integral = integral + share * step * divergence
                at = x_t + reach * step * velocity
            x_t = ahead
        # There p(x_t) = E_x N(x_t; alpha x, sigma^2), whose logarithm to first order in alpha is
        # that with x_hat for x: the prior at eps_hat.
        t = times[-1]
        eps_hat = self.path.eps_from_x(self.denoise(x_t, t.expand(len(x_t))), x_t, t)
        normal = -0.5 * (eps_hat.square() + math.log(2 * math.pi)) - self.path.sigma(t).log()
        return normal.flatten(1).sum(1) + integral

    def _velocity(self, x_t: Tensor, t: Tensor, probes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """v(x_t, t) (B, *) and its divergence (B,).

        v = alpha' x_hat + sigma' (x_t - alpha x_hat) / sigma: the trace of the part that is linear
        in x_t is known, so that only x_hat's is estimated.
        """
        with torch.enable_grad():
            x_t = x_t.detach().requires_grad_()
            x_hat = self.denoise(x_t, t)
            trace = x_t.new_zeros(len(x_t))
            for i, e in enumerate(probes):
                (pulled,) = torch.autograd.grad(x_hat, x_t, e, retain_graph=i + 1 < len(probes))
                trace = trace + (pulled * e).flatten(1).sum(1)
        x_t, x_hat = x_t.detach(), x_hat.detach()
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        d_alpha, d_sigma = self.path.slopes(t)
        of_x_t = d_sigma / sigma
        of_x_hat = d_alpha - alpha * of_x_t
        velocity = wide(of_x_t, x_t) * x_t + wide(of_x_hat, x_t) * x_hat
        return velocity, of_x_t * x_t[0].numel() + of_x_hat * trace


def _log_normal_mass(lower: Tensor, upper: Tensor) -> Tensor:
    """log P(lower < u < upper), u ~ N(0, 1), without cancellation in either tail."""
    flip = lower + upper > 0  # to the side where the mass is a difference of two lower tails
    low, high = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return log_high + torch.log(-torch.expm1(log_low - log_high))


def _probes(x: Tensor, num_probes: int, generator: torch.Generator) -> list[Tensor]:
    """The e of sum_e e . J e: a basis where items have few values, else scaled signs."""
    num_values = x[0].numel()
    if num_values <= MOST_EXACT:
        return [e.view(1, *x.shape[1:]).expand_as(x) for e in torch.eye(num_values).to(x)]
    draws = (rand(x.shape, generator).to(x) for _ in range(num_probes))
    return [torch.where(draw < 0.5, -1.0, 1.0).to(x) / math.sqrt(num_probes) for draw in draws]
