r"""Take noise off items.

    denoise       y = x + s n:  alpha_t y lies on the path at the t where sigma_t / alpha_t = s;
                  the model's E[x | x_t] is the least-squares estimate of x (Robbins 1956)
    reconstruct   decode(encode(y)): what the autoencoder has learned lies near data (Vincent 2008)

s is given or estimated from each item: the finest differences along every space axis hold almost
nothing but noise, and their median absolute deviation over 0.6745 is its standard deviation
(Donoho & Johnstone 1994).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from morphogen.core.capability import CanDenoise, CanReconstruct, refuses
from morphogen.core.errors import RecipeError
from morphogen.core.result import Result
from morphogen.tasks._path import in_range, integrate
from morphogen.tasks._routes import Conditions, beside, choose, chunks, only, per_item

CLEAN = 1e-3  # an item whose time is below this has no noise worth taking off


@refuses(only("real values, which noise can be added to", lambda spec: spec.kind == "real"))
def denoise(
    model: CanDenoise | CanReconstruct,
    x: Tensor,
    *,
    cond: Conditions | None = None,  # conditions by name, each (N, ...), for the denoising route
    generator: torch.Generator,
    noise_std: float | None = None,  # noise in units of [-1, 1]; none estimates it for each item
    method: Literal["mean", "draw"] = "mean",  # the least-squares estimate, or a sharp draw
    route: Literal["denoise", "reconstruct"] | None = None,  # force a way; none takes the first
) -> Result:
    """Take noise off items; pairs of input and result."""
    values: dict[str, list[float]] = {}

    def by_posterior(m: CanDenoise) -> Tensor:
        std = noise_level(x) if noise_std is None else torch.full((len(x),), float(noise_std))
        values["noise_std"] = std.tolist()
        t = x.new_tensor([m.path.time_of_sigma(s) for s in std.tolist()])
        if method == "draw":
            shares = chunks(len(x), cond, size=1)  # each item starts at a time of its own
            return torch.cat([drawn(m, x[i], float(t[i]), share) for i, share in shares])
        wide = t.view(-1, *(1,) * (x.dim() - 1))
        scaled = x * m.path.alpha(wide)
        parts = chunks(len(x), cond)
        estimate = torch.cat([m.denoise(scaled[i], t[i], share) for i, share in parts])
        return in_range(m, torch.where(wide < CLEAN, x, estimate))

    def drawn(m: CanDenoise, y: Tensor, t: float, share: Conditions | None) -> Tensor:
        if t < CLEAN:
            return y
        x_t = y * m.path.alpha(y.new_tensor(t))
        return integrate(m, x_t, t, cond=share, generator=generator)

    def by_autoencoder(m: CanReconstruct) -> Tensor:
        return torch.cat([m.decode(m.encode(x[part])) for part, _ in chunks(len(x))])

    name, run = choose(model, {"denoise": by_posterior, "reconstruct": by_autoencoder}, route)
    result = run()
    values["squared_change"] = per_item((result.to(x) - x).square())
    columns = 2 * math.ceil(math.sqrt(len(x) / 2))
    return Result(beside(x, result), dict(values), name, columns)


def noise_level(x: Tensor) -> Tensor:
    """Standard deviation of white noise on each item (N, C, *space): (N,)."""
    finest = x.float()
    axes = [axis for axis in range(2, x.dim()) if x.shape[axis] > 1]
    if not axes:
        raise RecipeError(
            "the noise of items without space axes cannot be estimated: give noise_std",
            found=tuple(x.shape[1:]),
            expected="noise_std=0.3, say, in units of [-1, 1]",
        )
    for axis in axes:
        finest = finest.diff(dim=axis) / math.sqrt(2)  # unit gain on white noise
    finest = finest.flatten(1)
    deviation = (finest - finest.median(dim=1, keepdim=True).values).abs()
    return deviation.median(dim=1).values.cpu() / 0.6745
