"""Where each item is expected and how wide it lies about that, and what a noisy item is from there.

    x = mean + w u,     x_t = alpha(t) x + sigma(t) eps

so that x_t without its mean, in units of w, is a noisy u: at another time t' of the same path, that
at which a datum has as much noise in it as w u has at t,

    (x_t - alpha mean) / w = alpha u + (sigma / w) eps = r (alpha(t') u + sigma(t') eps),
    sigma(t') / alpha(t') = sigma(t) / (w alpha(t)).

What a network learns of u holds for all items alike, calm or wild, and wherever they lie (what
instance normalisation does for forecasts: Kim et al. 2022), and every t' is met in training. In
units of x, a narrow item would be all noise at most times, and the level of one that is yet to
come one that was never seen.

Legend: B batch, * the shape of an item.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from morphogen.core.gaussian_path import GaussianPath, wide

LEAST = 1e-9  # of what is divided by


@dataclass(frozen=True)
class Frame:
    """The mean (B, *) and the width (B,) of each item of a batch."""

    mean: Tensor
    width: Tensor

    def inside(self, x: Tensor) -> Tensor:
        """x -> u: (B, *)."""
        return (x - self.mean) / wide(self.width, x)

    def outside(self, u: Tensor) -> Tensor:
        """u -> x: (B, *)."""
        return self.mean + wide(self.width, u) * u

    def noisy(self, path: GaussianPath, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """x_t and t -> u_t and t': (B, *), (B,)."""
        alpha, sigma = path.alpha(t), path.sigma(t) / self.width
        ratio = sigma / alpha.clamp(min=LEAST)
        own = path.time_of_log_snr(-2 * ratio.clamp(LEAST, 1 / LEAST).log())
        size = torch.hypot(alpha, sigma) / torch.hypot(path.alpha(own), path.sigma(own))  # r
        left = (x_t - wide(alpha, x_t) * self.mean) / wide(self.width, x_t)
        return left / wide(size, x_t), own
