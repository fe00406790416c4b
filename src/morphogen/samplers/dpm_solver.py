r"""DPM-Solver++(2M): second order at one evaluation a step, by remembering the last estimate.

With lambda = log(alpha / sigma), h = lambda_s - lambda_t and r = h_previous / h:

    D   = (1 + 1/(2r)) x_hat_t - 1/(2r) x_hat_previous
    x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - exp(-h)) D

Lu et al. 2022, arXiv:2211.01095, algorithm 2. The first and last steps are first order: there
lambda is infinite on one side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from morphogen.core.gaussian_path import Denoise, GaussianPath


def dpm_solver(
    denoise: Denoise, x: Tensor, times: Tensor, path: GaussianPath, generator: torch.Generator
) -> Tensor:
    """DPM-Solver++(2M), deterministic. x (B, *) at times[0] -> (B, *) at times[-1]."""
    exact = times.double()
    alpha, sigma = path.alpha(exact), path.sigma(exact)
    log_snr = torch.log(alpha.clamp(min=0)) - torch.log(sigma)  # -inf at t = 1, +inf at t = 0
    previous: Tensor | None = None
    for i, t in enumerate(times[:-1]):
        x_hat = denoise(x, t.expand(len(x)))
        h = log_snr[i + 1] - log_snr[i]
        estimate = x_hat
        if previous is not None and torch.isfinite(h):
            ratio = (log_snr[i] - log_snr[i - 1]) / h
            if torch.isfinite(ratio):
                weight = float(0.5 / ratio)
                estimate = (1 + weight) * x_hat - weight * previous
        keep, add = sigma[i + 1] / sigma[i], alpha[i + 1] * -torch.expm1(-h)
        x = float(keep) * x + float(add) * estimate
        previous = x_hat
    return x
