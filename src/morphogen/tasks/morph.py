r"""From one label to another, all else being the same: the styles of one latent under two
conditions.

    w(a) = (1 - a) f(z, start) + a f(z, end),     x(a) = G(w(a)),    a from 0 to 1

f(z, c) is the style of latent z where c is said of the item (Karras et al. 2019). The direction
from one attribute to the other is that of this latent, not a mean over many: each row is one.

Legend: N latents, K places on the way, S layers, D width of a style.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from morphogen.core.capability import CanMix
from morphogen.core.errors import RefusedPair, did_you_mean
from morphogen.core.random import randn
from morphogen.core.result import Result
from morphogen.core.spec import TensorSpec
from morphogen.tasks._routes import Conditions
from morphogen.tasks.mix import decoded, said_of_all


def morph(
    model: CanMix,
    codec: Any = None,
    *,
    cond: Conditions | None = None,  # what holds all the way, by name, (1, ...)
    generator: torch.Generator,
    of: str | None = None,  # the condition that changes; none: the first
    start: str = "",  # what it is at first; empty: nothing is said of it
    end: str = "",  # what it is at last; empty: nothing is said of it
    num: int = 4,  # latents, one a row
    steps: int = 7,  # items on the way, its ends among them
) -> Result:
    """Rows of one item each, on its way from one label to another."""
    known: dict[str, TensorSpec] = dict(getattr(model, "conditions", {}))
    of = next(iter(known), None) if of is None else of
    if of is None or of not in known:
        raise RefusedPair(
            f"nothing called {of!r} is said of this model's items.{did_you_mean(of or '', known)}",
            expected=", ".join(known) or "a model that was trained with labels",
        )
    device: Any = getattr(model, "device")  # noqa: B009
    z = randn((num, *model.latent_spec.shape), generator).to(device)

    def styles(told: str) -> Tensor:
        said = {name: value for name, value in (cond or {}).items() if name != of}
        if told:
            reader = codec.condition_codecs[of]
            said[of] = codec.encode_condition(of, reader.parse(told))[None].to(device)
        return model.styles(z, said_of_all(said, num))

    first, last = styles(start), styles(end)  # (N, S, D)
    share = torch.linspace(0, 1, steps, device=device).view(1, -1, 1, 1)
    way = first[:, None] * (1 - share) + last[:, None] * share  # (N, K, S, D)
    return Result(decoded(model, way.flatten(0, 1)), {"of": of}, "styles", steps)
