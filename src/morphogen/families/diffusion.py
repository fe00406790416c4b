r"""Diffusion: learn to remove Gaussian noise at every level, then remove it step by step.

    x_t = alpha_t x + sigma_t eps,   alpha_t = cos(pi t / 2),  sigma_t = sin(pi t / 2)

The network predicts one of three targets, each a linear map from the others:

    "v"    alpha_t eps - sigma_t x      (Salimans & Ho 2022: well scaled at every t)
    "eps"  the noise                    (Ho et al. 2020)
    "x"    the data

and the loss is E w(t) || prediction - target ||^2, where w caps the signal-to-noise weight that the
target implies on x, min(SNR, 5) (Hang et al. 2023), or is 1.

    x ---(+ noise)---> x_t --[backbone | t, cond]--> target --> E[x | x_t] --(solver)--> sample

Sohl-Dickstein et al. 2015, Ho et al. 2020 (arXiv:2006.11239), Nichol & Dhariwal 2021 (cosine).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.gaussian_path import GaussianPath, wide
from morphogen.core.random import randn, stratified
from morphogen.core.spec import TensorSpec
from morphogen.families._denoiser import Baseline, Denoiser

LOWEST_TIME = 1e-3  # below it the "eps" and "x" conversions divide by almost nothing


class Diffusion(Denoiser):
    """Denoising diffusion on the cosine path, conditional where the data has conditions."""

    papers = ("sohl2015deep", "ho2020denoising", "nichol2021improved", "salimans2022progressive",
              "song2021score", "kingma2021variational", "karras2024guiding",
              "kynkaanniemi2024applying", "yu2025representation")  # fmt: skip
    path = GaussianPath("cosine")

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        *,
        target: Literal["v", "eps", "x"] = "v",  # what the network predicts
        weighting: Literal["none", "min_snr"] = "none",  # weight of the loss over t
        drop_prob: float = 0.1,  # share of items trained without their conditions, for guidance
        cond_dim: int = 128,  # width of the embedded time and conditions
        cond_pooled: bool = False,  # conditions as vectors alone, nothing to attend to: cheaper
        baseline: Baseline = "auto",  # start from the best linear denoiser (auto: if it is small)
        sampler: str = "adams_bashforth",  # default sampler
        num_steps: int = 25,  # default number of sampling steps
        time_shift: float = 2.0,  # > 1 spends more sampling steps at high noise
        sharpness: float | None = None,  # > 1 goes further from the baseline; none: 1.2, or 1
        leaps: bool = False,  # noise becomes items at once: set by --objective few_steps
        told: str | None = None,  # condition that hidden features are to tell, and nothing hears
        told_weight: float = 1.0,  # of that in the loss
    ) -> None:
        super().__init__(
            spec, conditions, backbone,
            cond_dim=cond_dim, drop_prob=drop_prob, baseline=baseline, sharpness=sharpness,
            leaps=leaps, cond_pooled=cond_pooled, told=told, told_weight=told_weight,
        )  # fmt: skip
        self.target, self.weighting = target, weighting
        self.sampler, self.num_steps, self.time_shift = sampler, num_steps, time_shift

    def loss(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted mean squared error of the target, per item."""
        x, cond, drops = self.framed(batch, generator)
        eps = randn(x.shape, generator).to(x)
        t = LOWEST_TIME + (1 - 2 * LOWEST_TIME) * stratified(len(x), generator).to(x)
        a, b = (wide(weight, x) for weight in self.target_weights(t))
        wanted = a * x + b * eps
        midway = self.listens(batch)
        x_t = self.path.noised(x, eps, t)
        predicted = self.predict_target(x_t, t, cond, drops, midway=midway)
        error = batch.mean_over_values((predicted - wanted).square())
        return self.with_told(error * self._weight(t), {"mse": error}, batch, midway)

    def target_weights(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """v is alpha eps - sigma x, eps the noise, x the data."""
        if self.target == "v":
            return -self.path.sigma(t), self.path.alpha(t)
        is_x = torch.full_like(t, float(self.target == "x"))
        return is_x, 1 - is_x

    def x_from_target(self, target: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The target itself, or solved for x."""
        alpha, sigma = wide(self.path.alpha(t), x_t), wide(self.path.sigma(t), x_t)
        if self.target == "v":
            return alpha * x_t - sigma * target
        if self.target == "eps":
            # At t = 1 nothing of x is left to solve for: the least alpha keeps the estimate finite.
            return (x_t - sigma * target) / alpha.clamp(min=LOWEST_TIME)
        return target

    def _weight(self, t: Tensor) -> Tensor:
        if self.weighting == "none":
            return torch.ones_like(t)
        snr = (self.path.alpha(t) / self.path.sigma(t)).square()
        # A unit weight on each target is this weight on the error of x.
        implied = {"v": snr + 1, "eps": snr, "x": torch.ones_like(snr)}[self.target]
        return snr.clamp(max=5.0) / implied
