"""Take items apart and put them together again, to see what the model keeps.

    reconstruct   x' = decode(encode(x))
    denoise       x_t = alpha_t x + sigma_t eps at t = strength, then integrated back to data

The first shows what passes the bottleneck; the second what the model restores of what noise hid.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from morphogen.core.capability import CanDenoise, CanReconstruct
from morphogen.core.change import change_of_items, named
from morphogen.core.encoded import num_items
from morphogen.core.random import randn
from morphogen.core.result import Result
from morphogen.core.spec import Spec
from morphogen.tasks._path import integrate
from morphogen.tasks._routes import Conditions, beside, check_share, choose, in_chunks


def reconstruct(
    model: CanReconstruct | CanDenoise,
    x: Any,
    *,
    cond: Conditions | None = None,  # conditions by name, each (N, ...), for the denoising route
    generator: torch.Generator,
    strength: float = 0.5,  # denoising route: the time, in (0, 1], to which items are noised
    route: Literal["reconstruct", "denoise"] | None = None,  # force a way; none takes the first
) -> Result:
    """Encode items and decode them; pairs of input and reconstruction."""

    spec: Spec = getattr(model, "spec")  # noqa: B009

    def by_autoencoder(m: CanReconstruct, part: Any, share: Conditions | None) -> Any:
        return m.decode(m.encode(part))

    def by_denoising(m: CanDenoise, part: Tensor, share: Conditions | None) -> Tensor:
        check_share(strength, "strength")
        eps = randn(part.shape, generator).to(part)
        x_t = m.path.noised(part, eps, part.new_tensor([strength]))
        return integrate(m, x_t, strength, cond=share, generator=generator)

    name, run = choose(model, {"reconstruct": by_autoencoder, "denoise": by_denoising}, route)
    again = in_chunks(run, x, cond)
    error = named("error", change_of_items(again, x, spec), spec)
    columns = 2 * math.ceil(math.sqrt(num_items(x) / 2))
    return Result(beside(x, again), error, name, columns)
