r"""Flow matching: regress the velocity that carries noise to data along straight lines.

    x_t = (1 - t) x + t eps,     v = dx_t/dt = eps - x
    L   = E_{x, eps, t} || v_theta(x_t, t) - (eps - x) ||^2

The minimiser is the marginal velocity E[eps - x | x_t], whose ODE, integrated from noise at t = 1
to t = 0, samples the data. t is drawn uniformly or from a logit-normal, which spends the network on
the middle of the path where the regression is hard (Esser et al. 2024), and evenly over a batch.

    x ---(+ noise)---> x_t --[backbone | t, cond]--> v --(ODE solver)--> sample

Lipman et al. 2023 (arXiv:2210.02747), Liu et al. 2023 (rectified flow, arXiv:2209.03003).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.gaussian_path import GaussianPath
from morphogen.core.random import randn, stratified
from morphogen.core.spec import TensorSpec
from morphogen.families._denoiser import Baseline, Denoiser


class FlowMatching(Denoiser):
    """Flow matching on the straight Gaussian path, conditional where the data has conditions."""

    papers = ("lipman2023flow", "liu2023flow", "esser2024scaling", "ho2022classifier",
              "grathwohl2019ffjord", "kingma2021variational", "karras2024guiding",
              "kynkaanniemi2024applying", "yu2025representation")  # fmt: skip
    path = GaussianPath("straight")

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        *,
        time_sampling: Literal["uniform", "logit_normal"] = "logit_normal",  # law of t in training
        drop_prob: float = 0.1,  # share of items trained without their conditions, for guidance
        cond_dim: int = 128,  # width of the embedded time and conditions
        cond_pooled: bool = False,  # conditions as vectors alone, nothing to attend to: cheaper
        baseline: Baseline = "auto",  # start from the best linear denoiser (auto: if it is small)
        sampler: str = "adams_bashforth",  # default sampler
        num_steps: int = 12,  # default number of sampling steps
        time_shift: float = 3.0,  # > 1 spends more sampling steps at high noise
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
        self.time_sampling = time_sampling
        self.sampler, self.num_steps, self.time_shift = sampler, num_steps, time_shift

    def loss(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the velocity, per item."""
        x, cond, drops = self.framed(batch, generator)
        eps = randn(x.shape, generator).to(x)
        t = self._draw_times(len(x), generator).to(x)
        midway = self.listens(batch)
        v = self.predict_target(self.path.noised(x, eps, t), t, cond, drops, midway=midway)
        error = batch.mean_over_values((v - self.path.velocity(x, eps, t)).square())
        return self.with_told(error, {}, batch, midway)

    def target_weights(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The velocity's: (-1, 1)."""
        return self.path.slopes(t)

    def x_from_target(self, target: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t - t v."""
        return self.path.x_from_velocity(target, x_t, t)

    def _draw_times(self, num: int, generator: torch.Generator) -> Tensor:
        """(B,), spread evenly over the batch."""
        uniform = stratified(num, generator)
        if self.time_sampling == "logit_normal":
            return torch.sigmoid(torch.special.ndtri(uniform.clamp(1e-4, 1 - 1e-4)))
        return uniform
