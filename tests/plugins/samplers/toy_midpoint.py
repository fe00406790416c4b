r"""A midpoint method: the denoiser is asked in the middle of a step, for all of it.

x_s = alpha_s x_hat_m + sigma_s (x_t - alpha_t x_hat_m) / sigma_t,    m = (t + s) / 2
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from morphogen.core.gaussian_path import Denoise, GaussianPath


def toy_midpoint(
    denoise: Denoise, x: Tensor, times: Tensor, path: GaussianPath, generator: torch.Generator
) -> Tensor:
    """Two evaluations a step, deterministic. x (B, *) at times[0] -> (B, *) at times[-1]."""
    for t, s in itertools.pairwise(times):
        middle = (t + s) / 2
        x_hat = denoise(x, t.expand(len(x)))
        between = path.noised(x_hat, path.eps_from_x(x_hat, x, t), middle)
        x_hat = denoise(between, middle.expand(len(x)))
        x = path.noised(x_hat, path.eps_from_x(x_hat, x, t), s)
    return x
