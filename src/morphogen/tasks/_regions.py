"""Which part of an item is known: masks over any number of space axes."""

from __future__ import annotations

import torch
from torch import Tensor

from morphogen.core.errors import RecipeError, did_you_mean
from morphogen.core.random import rand

SIDES = ("center", "left", "right", "top", "bottom")


def known_region(
    mask: str, x: Tensor, space: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """True where x (N, *) is to be kept, broadcastable to x. `mask` names what is hidden.

    "center" hides the middle half of every axis, a side its half of one axis (left and right the
    last, top and bottom the one before it), "random:0.5" half of all positions, drawn per item.
    Items without space axes are masked along their features.
    """
    axes = space or tuple(x.shape[1:])
    name, _, share = mask.partition(":")
    if name == "random":
        return _scattered(share or "0.5", x, axes, generator)
    if name not in SIDES:
        raise RecipeError(
            f"there is no mask {mask!r}.{did_you_mean(name, (*SIDES, 'random'))}",
            found=mask,
            expected=", ".join((*SIDES, "random:0.5")),
        )
    hidden = torch.ones(axes, dtype=torch.bool)
    for axis, size in enumerate(axes):
        index = torch.arange(size).view(-1, *(1,) * (len(axes) - 1 - axis))
        if name == "center":
            hidden &= (index >= size // 4) & (index < size - size // 4)
        elif axis == len(axes) - 1 and name in ("left", "right"):
            hidden &= (index < size // 2) if name == "left" else (index >= size // 2)
        elif axis == max(len(axes) - 2, 0) and name in ("top", "bottom"):
            hidden &= (index < size // 2) if name == "top" else (index >= size // 2)
    return ~hidden.expand(1, *x.shape[1:]).to(x.device)


def check_known(known: Tensor, x: Tensor) -> Tensor:
    """A ready mask, bool and broadcastable to x; raises `RecipeError` when it is not."""
    try:
        wide = known.expand(x.shape)
    except RuntimeError as error:
        raise RecipeError(
            "the mask does not fit the items",
            found=tuple(known.shape),
            expected=f"broadcastable to {tuple(x.shape)}",
        ) from error
    return wide.to(device=x.device, dtype=torch.bool)


def _scattered(share: str, x: Tensor, axes: tuple[int, ...], generator: torch.Generator) -> Tensor:
    try:
        prob = float(share)
    except ValueError:
        prob = -1.0
    if not 0 < prob <= 1:
        raise RecipeError(
            "random needs the share to hide", found=share, expected="random:0.5, in (0, 1]"
        )
    shape = (len(x), *(1,) * (x.dim() - 1 - len(axes)), *axes)
    return (rand(shape, generator) >= prob).to(x.device)
