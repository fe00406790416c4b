r"""Classifier-free guidance: exaggerate what a condition changes.

    x_hat = x_hat(none) + scale (x_hat(cond) - x_hat(none))

scale = 1 is the model itself, 0 forgets the condition, above 1 trades variety for typicality.
Ho & Salimans 2022 (arXiv:2207.12598).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from morphogen.core.capability import CanDenoise
from morphogen.core.gaussian_path import DenoiserSampling


class Guidance(DenoiserSampling):
    """A denoiser around a denoiser; samples, fills and integrates like what it wraps."""

    def __init__(self, model: CanDenoise, scale: float) -> None:
        wrapped: Any = model
        self.model, self.scale = wrapped, scale
        self.path, self.spec, self.conditions = wrapped.path, wrapped.spec, wrapped.conditions
        self.sampler, self.num_steps = wrapped.sampler, wrapped.num_steps
        self.time_shift = wrapped.time_shift

    def denoise(self, x_t: Tensor, t: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """The guided estimate, from one pass with the condition and one without."""
        return self._guided(self.model.denoise, x_t, t, cond)

    def steer(self, x_t: Tensor, t: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """The same of what the wrapped model's sampling follows."""
        return self._guided(self.model.steer, x_t, t, cond)

    def starting_noise(self, num: int, generator: torch.Generator) -> Tensor:
        """The wrapped model's."""
        noise: Tensor = self.model.starting_noise(num, generator)
        return noise

    def once(self, cond: Mapping[str, Tensor] | None, num: int) -> Mapping[str, Tensor] | None:
        """As the wrapped model embeds them."""
        found: Mapping[str, Tensor] | None = self.model.once(cond, num)
        return found

    def grained(self, x: Tensor) -> Tensor:
        """As the wrapped model hands them out."""
        whole: Tensor = self.model.grained(x)
        return whole

    def _guided(
        self,
        estimate: Callable[..., Tensor],
        x_t: Tensor,
        t: Tensor,
        cond: Mapping[str, Tensor] | None,
    ) -> Tensor:
        if not cond or self.scale == 1:
            return estimate(x_t, t, cond)
        free, held = estimate(x_t, t, None), estimate(x_t, t, cond)
        return free + self.scale * (held - free)

    @property
    def device(self) -> torch.device:
        """Where the wrapped model lives."""
        return self.model.device
