r"""How well a denoiser predicts the noise on an item: its evidence for the item.

    -log p(x | y) <= 1/2 integral ||eps - eps_hat(x_t, t, y)||^2 dlambda + const

with lambda = log SNR, tight for an exact denoiser (Kingma et al. 2021). Estimated at `num_draws`
times spread evenly over lambda, with noises that are the same for every item and every condition,
so that differences between items and between conditions are not drowned by the draw.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from morphogen.core.capability import CanDenoise
from morphogen.core.random import randn
from morphogen.tasks._routes import Conditions, chunks

LOG_SNR = (-6.0, 6.0)  # outside, every denoiser knows nothing, or everything


def noise_error(
    m: CanDenoise,
    x: Tensor,
    cond: Conditions | None,
    num_draws: int,
    generator: torch.Generator,
) -> Tensor:
    """1/2 integral (eps - eps_hat)^2 dlambda, one per value, in nats: x's shape."""
    low, high = LOG_SNR
    noises = randn((num_draws, *x.shape[1:]), generator).to(x)
    total = torch.zeros_like(x)
    for draw in range(num_draws):
        log_snr = low + (high - low) * (draw + 0.5) / num_draws
        t = x.new_tensor([m.path.time_of_sigma(math.exp(-log_snr / 2))])
        eps = noises[draw : draw + 1]
        for part, share in chunks(len(x), cond):
            x_t = m.path.noised(x[part], eps.expand_as(x[part]), t)
            estimate = m.denoise(x_t, t.expand(len(x_t)), share)
            total[part] += (m.path.eps_from_x(estimate, x_t, t) - eps).square()
    return total * (0.5 * (high - low) / num_draws)
