r"""Items that are coarse as one, fine as another: styles of two latents at the layers of one
generator.

    w_l = w^a_l for the layers l < start,   w^b_l from there on   (Karras et al. 2019, style mixing)

a down the first column, b along the first row. Coarse layers decide what an item is and how it
stands, fine ones its shades. Latents are drawn; what is said of the items holds for all.

Legend: K items along each side, Z latent, S layers, D width of a style.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from morphogen.core.capability import CanMix
from morphogen.core.errors import RecipeError
from morphogen.core.random import randn
from morphogen.core.result import Result
from morphogen.tasks._routes import Conditions, in_chunks, repeat


def mix(
    model: CanMix,
    *,
    cond: Conditions | None = None,  # conditions by name, (1, ...): of all items
    generator: torch.Generator,
    num: int = 5,  # items along each side
    start: int | None = None,  # first layer that is taken from the other; none: the middle
) -> Result:
    """A table of items that take their coarse layers from the row, their fine ones from the
    column: its first row and column are the items as they were drawn."""
    last = model.num_styles
    start = last // 2 if start is None else start
    if num < 1 or not 0 <= start <= last:
        raise RecipeError(
            "there is nothing to mix", found=f"num={num}, start={start}",
            expected=f"num of 1 or more, start between 0 and {last}",
        )  # fmt: skip
    device: Any = getattr(model, "device")  # noqa: B009
    z = randn((2 * num, *model.latent_spec.shape), generator).to(device)
    styles = model.styles(z, said_of_all(cond, 2 * num))  # (2K, S, D)
    coarse, fine = styles[:num], styles[num:]
    mixed = torch.where(
        (torch.arange(last, device=device) < start)[:, None],
        coarse[:, None].expand(-1, num, -1, -1),
        fine[None].expand(num, -1, -1, -1),
    )  # (K, K, S, D)
    corner = torch.zeros_like(model.from_styles(styles[:1]))
    made = decoded(model, torch.cat([fine, coarse, mixed.flatten(0, 1)]))
    top, side, inside = torch.split(made, [num, num, num * num])
    body = torch.cat([side[:, None], inside.view(num, num, *inside.shape[1:])], 1).flatten(0, 1)
    table = torch.cat([corner, top, body])
    return Result(table, {"layers": last, "start": start}, "styles", num + 1)


def said_of_all(cond: Conditions | None, num: int) -> Conditions | None:
    """What is said of one item, or of all, for `num` of them."""
    return repeat({name: value[:1] for name, value in cond.items()}, num) if cond else None


def decoded(model: CanMix, styles: Tensor) -> Tensor:
    """What styles (N, S, D) make, some at a time."""
    found: Tensor = in_chunks(lambda part, _: model.from_styles(part), styles)
    return found
