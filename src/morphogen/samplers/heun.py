r"""Second-order integration of the probability-flow ODE.

    d_t = v(x_t, t),   x' = x_t + (s - t) d_t,   x_s = x_t + (s - t) (d_t + v(x', s)) / 2

Heun's method, as in Karras et al. 2022 (EDM, arXiv:2206.00364, algorithm 1), in the time of the
path. The last step, onto t = 0 where the velocity's noise is undefined, is first order.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from morphogen.core.gaussian_path import Denoise, GaussianPath


def heun(
    denoise: Denoise, x: Tensor, times: Tensor, path: GaussianPath, generator: torch.Generator
) -> Tensor:
    """Heun: two evaluations a step, one in the last. x (B, *) at times[0] -> at times[-1]."""

    def velocity(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_hat = denoise(x_t, t.expand(len(x_t)))
        eps_hat = path.eps_from_x(x_hat, x_t, t)
        return path.velocity(x_hat, eps_hat, t), x_hat, eps_hat

    for t, s in itertools.pairwise(times):
        slope, x_hat, eps_hat = velocity(x, t)
        if s == 0:
            x = path.noised(x_hat, eps_hat, s)
            continue
        ahead = x + (s - t) * slope
        slope_ahead, _, _ = velocity(ahead, s)
        x = x + (s - t) * 0.5 * (slope + slope_ahead)
    return x
