"""Walk from item to item through what the model has learned.

    reconstruct   z = mix(encode(a), encode(b)),  decode(z)
    denoise       z = slerp(noise(a), noise(b)),  data(z): noise() and data() are the directions of
                  the probability-flow equation (Song et al. 2021)

The mix is spherical where the latents' prior is a standard Gaussian (`latent_prior = "gaussian"`),
whose mass lies on a shell that straight lines leave (White 2016); linear where there is no prior;
for token latents a growing share of the positions is taken from b.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from morphogen.core.capability import CanDenoise, CanReconstruct
from morphogen.core.encoded import num_items
from morphogen.core.errors import RecipeError
from morphogen.core.random import rand
from morphogen.core.result import Result
from morphogen.tasks._latents import mix, slerp
from morphogen.tasks._path import from_noise, to_noise
from morphogen.tasks._routes import Conditions, choose, chunks, in_chunks


def interpolate(
    model: CanReconstruct | CanDenoise,
    x: Any,
    *,
    cond: Conditions | None = None,  # conditions by name, each (N, ...), for the denoising route
    generator: torch.Generator,
    num: int = 8,  # items in a row, both ends included
    num_steps: int = 25,  # denoising route: integration steps each way
    route: Literal["reconstruct", "denoise"] | None = None,  # force a way; none takes the first
) -> Result:
    """Walk from each item to the next: one row per pair of neighbours."""
    pairs = num_items(x) - 1
    if pairs < 1 or num < 2:
        raise RecipeError(
            "a walk needs two ends",
            found=f"{num_items(x)} item(s), num={num}",
            expected="at least two items, num >= 2",
        )
    left = torch.arange(pairs).repeat_interleave(num)  # the pair that each output belongs to
    weight = torch.linspace(0, 1, num).repeat(pairs)

    def by_latents(m: CanReconstruct) -> Any:
        z = in_chunks(lambda part, _: m.encode(part), x)
        turn = rand(z.shape[1:], generator)
        between = mix(m, z[left], z[left + 1], weight, turn)
        return in_chunks(lambda part, _: m.decode(part), between)

    def by_noise(m: CanDenoise) -> Tensor:
        ends = [to_noise(m, x[part], share, num_steps) for part, share in chunks(len(x), cond)]
        noise = torch.cat(ends)
        between = slerp(noise[left], noise[left + 1], weight)
        # A mixture has no condition of its own: it takes that of the nearer end.
        nearer = left + (weight >= 0.5).long()
        near = None if cond is None else {name: value[nearer] for name, value in cond.items()}
        parts = chunks(len(between), near)
        return torch.cat([from_noise(m, between[part], share, num_steps) for part, share in parts])

    name, run = choose(model, {"reconstruct": by_latents, "denoise": by_noise}, route)
    return Result(run(), {"weight": weight.tolist()}, name, num)
