r"""Stochastic sampling: every step returns to the posterior q(x_s | x_t, x_hat).

    nu^2 = sigma_s^2 (1 - (alpha_t sigma_s / (alpha_s sigma_t))^2)
    x_s  = alpha_s x_hat + sqrt(sigma_s^2 - nu^2) eps_hat + nu z,    z ~ N(0, I)

Ho et al. 2020 (DDPM, arXiv:2006.11239) for any Gaussian path; DDIM with eta = 1. Fresh noise lets
known and redrawn parts of an item come to agree, which is why filling uses it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from morphogen.core.gaussian_path import Denoise, GaussianPath
from morphogen.core.random import randn


def ancestral(
    denoise: Denoise, x: Tensor, times: Tensor, path: GaussianPath, generator: torch.Generator
) -> Tensor:
    """DDPM: one evaluation and one draw a step. x (B, *) at times[0] -> (B, *) at times[-1]."""
    exact = times.double()
    alpha, sigma = path.alpha(exact), path.sigma(exact)
    for i, t in enumerate(times[:-1]):
        x_hat = denoise(x, t.expand(len(x)))
        eps_hat = path.eps_from_x(x_hat, x, t)
        ratio = alpha[i] * sigma[i + 1] / (alpha[i + 1] * sigma[i])
        nu = sigma[i + 1] * torch.sqrt((1 - ratio**2).clamp(min=0))
        kept = torch.sqrt((sigma[i + 1] ** 2 - nu**2).clamp(min=0))
        z = randn(x.shape, generator).to(x)
        x = float(alpha[i + 1]) * x_hat + float(kept) * eps_hat + float(nu) * z
    return x
