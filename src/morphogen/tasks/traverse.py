r"""Look at the plane on which a model's latents vary most.

    z = mu + a s_1 v_1 + b s_2 v_2,   x = decode(z),   a, b in [-reach, reach]

mu is the mean of the items' latents, v_i their principal directions (Pearson 1901), s_i the
standard deviation along each: a and b count in those. Without a place, the plane is decoded on a
grid, the first direction from left to right, the second from below upwards; with one, there alone.

Where the items themselves lie is told in the same units. All that does not vary on the plane is as
in the mean item, so that what is decoded looks like a mean of what lies there.

Legend: N items, Z latent dimension, S places.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from morphogen.core.capability import CanReconstruct, unless
from morphogen.core.encoded import num_items
from morphogen.core.errors import RecipeError
from morphogen.core.result import Result
from morphogen.tasks._directions import principal_directions
from morphogen.tasks._routes import Conditions, in_chunks

FEWEST = 3  # items, whose latents a plane goes through


def _unfit(model: Any) -> str | None:
    if model.latent_spec.kind == "real":
        return None
    return "needs latents that vary without steps, and those of this model are tokens"


@unless(_unfit)
def traverse(
    model: CanReconstruct,
    x: Any,
    *,
    cond: Conditions | None = None,  # not used: what is decoded follows from the latents
    generator: torch.Generator,
    num: int = 7,  # places along each side of the grid
    reach: float = 2.0,  # how far the grid goes from the mean, in standard deviations
    across: float | None = None,  # a place along the first direction, to be decoded alone
    up: float | None = None,  # and along the second
) -> Result:
    """Decode places on the plane of the two directions in which the items' latents vary most."""
    if num_items(x) < FEWEST or num < 2 or not reach > 0:
        raise RecipeError(
            "a plane needs items that it goes through, and a size",
            found=f"{num_items(x)} item(s), num={num}, reach={reach}",
            expected=f"at least {FEWEST} items, num >= 2, reach > 0",
        )
    z = in_chunks(lambda part, _: model.encode(part), x)
    found = principal_directions(z.flatten(1).double(), 2)
    places = _grid(num, reach)
    if across is not None or up is not None:
        places = torch.tensor([[across or 0.0, up or 0.0]])
    places = places.to(found.mean)  # (S, 2)
    on_plane = found.mean + (places * found.spread) @ found.along  # (S, Z)
    decoded = in_chunks(
        lambda part, _: model.decode(part), on_plane.to(z.dtype).view(-1, *z.shape[1:])
    )
    own = found.scores / found.spread.clamp(min=1e-12)
    values = {
        "across": places[:, 0].tolist(), "up": places[:, 1].tolist(), "items": own.tolist(),
        "share": found.share,
    }  # fmt: skip
    return Result(decoded, values, "reconstruct", num if len(places) > 1 else 1)


def _grid(num: int, reach: float) -> Tensor:
    """Places row by row, the highest first: (num * num, 2)."""
    along = torch.linspace(-reach, reach, num)
    return torch.cartesian_prod(along.flip(0), along).flip(1)
