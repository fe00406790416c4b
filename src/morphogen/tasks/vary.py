r"""Make variations of items: the more strength, the further from them.

vary          the model's own way, as pipelines of diffusers have one
denoise       noise to t = strength, x_t = alpha_t x + sigma_t eps, and integrate back to data
              (SDEdit, Meng et al. 2022): coarse structure survives, detail is drawn anew
reconstruct   decode a disturbed latent: sqrt(1 - s^2) z + s eps under a Gaussian prior,
              z + s std(z) eps without one, a share s of token positions redrawn
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from morphogen.core.capability import CanDenoise, CanReconstruct, CanVary
from morphogen.core.change import change_of_items, named
from morphogen.core.random import randn
from morphogen.core.result import Result
from morphogen.tasks._latents import disturb
from morphogen.tasks._path import integrate
from morphogen.tasks._routes import (
    Conditions,
    asked,
    check_share,
    choose,
    copied,
    guided,
    in_chunks,
    in_rows,
    repeat,
    said_away,
)


def vary(
    model: CanVary | CanDenoise | CanReconstruct,
    x: Any,
    codec: Any = None,
    *,
    cond: Conditions | None = None,  # conditions by name, each (N, ...)
    generator: torch.Generator,
    strength: float = 0.5,  # in (0, 1]: near 0 returns the item, 1 forgets it
    num: int = 5,  # variations of each item
    num_steps: int | None = None,  # of a whole path, where there is one; none takes the model's
    guidance: float | None = None,  # towards the conditions: 1 none, above 1 more of them
    negative: str | None = None,  # what to go away from, said as the model's caption or class is
    route: Literal["vary", "denoise", "reconstruct"] | None = None,  # force a way; none: any
) -> Result:
    """Make variations of each item: rows of the item and its variations."""
    check_share(strength, "strength")
    copies, spec = copied(x, num), getattr(model, "spec")  # noqa: B009

    def by_itself(m: CanVary, part: Tensor, share: Conditions | None) -> Tensor:
        given = asked(m.vary, num_steps=num_steps, guidance=guidance)
        return m.vary(part, strength, cond=share, generator=generator, **given)

    def by_denoising(m: CanDenoise, part: Tensor, share: Conditions | None) -> Tensor:
        eps = randn(part.shape, generator).to(part)
        x_t = m.path.noised(part, eps, part.new_tensor([strength]))
        steered = guided(m, guidance, said_away(m, codec, negative))
        return integrate(
            steered, x_t, strength, cond=share, generator=generator, num_steps=num_steps
        )

    def by_latents(m: CanReconstruct, part: Any, share: Conditions | None) -> Any:
        return m.decode(disturb(m, m.encode(part), strength, generator))

    routes: dict[str, Any] = {
        "vary": by_itself, "denoise": by_denoising, "reconstruct": by_latents
    }  # fmt: skip
    name, run = choose(model, routes, route)
    varied = in_chunks(run, copies, repeat(cond, num))
    change = change_of_items(varied, copies, spec).view(-1, num).mean(1)
    return Result(in_rows(x, varied, num), named("change", change, spec), name, num + 1)
