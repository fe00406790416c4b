r"""Classifier-free guidance: exaggerate what a condition changes.

    x_hat = x_hat(none) + scale (x_hat(cond) - x_hat(none))

scale = 1 is the model itself, 0 forgets the condition, above 1 trades variety for typicality.
Ho & Salimans 2022 (arXiv:2207.12598). Where something is to be gone away from (a negative prompt),
what it gives stands in the place of x_hat(none).
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

    def __init__(
        self, model: CanDenoise, scale: float, away: Mapping[str, Tensor] | None = None
    ) -> None:
        wrapped: Any = model
        self.model, self.scale = wrapped, scale
        self.away = dict(away or {})  # conditions by name, each (1, *), for all items
        self.read: tuple[int, Any] = 0, None  # these for so many items, as the model embeds them
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
        if self.away:
            self.read = num, self.model.once(self._all_away(num), num)
        found: Mapping[str, Tensor] | None = self.model.once(cond, num)
        return found

    def spread(self, x: Tensor, cond: Mapping[str, Tensor] | None) -> Tensor:
        """As wide as the wrapped model makes them."""
        drawn: Tensor = self.model.spread(x, cond)
        return drawn

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
        if self.scale == 1 or not (cond or self.away):
            return estimate(x_t, t, cond)
        num, read = self.read
        away = read if num == len(x_t) else self._all_away(len(x_t))
        free, held = estimate(x_t, t, away or None), estimate(x_t, t, cond)
        return free + self.scale * (held - free)

    def _all_away(self, num: int) -> dict[str, Tensor]:
        return {name: value.expand(num, *value.shape[1:]) for name, value in self.away.items()}

    @property
    def device(self) -> torch.device:
        """Where the wrapped model lives."""
        return self.model.device
