r"""First-order integration of the probability-flow ODE.

    x_s = alpha_s x_hat + sigma_s eps_hat,    eps_hat = (x_t - alpha_t x_hat) / sigma_t

This is DDIM (Song et al. 2021, arXiv:2010.02502): exact when the denoiser is constant over the
step, on any Gaussian path. On the straight path it is Euler's method for the velocity.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from morphogen.core.gaussian_path import Denoise, GaussianPath


def euler(
    denoise: Denoise, x: Tensor, times: Tensor, path: GaussianPath, generator: torch.Generator
) -> Tensor:
    """DDIM: one evaluation a step, deterministic. x (B, *) at times[0] -> (B, *) at times[-1]."""
    for t, s in itertools.pairwise(times):
        x_hat = denoise(x, t.expand(len(x)))
        x = path.noised(x_hat, path.eps_from_x(x_hat, x, t), s)
    return x
