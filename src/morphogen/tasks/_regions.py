"""Which part of an item is known: masks over any number of space axes, and over parts by name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from morphogen.core.errors import RecipeError, did_you_mean
from morphogen.core.random import rand
from morphogen.core.spec import ProductSpec, Spec

SIDES = ("center", "left", "right", "top", "bottom")


def known_region(mask: str, x: Any, spec: Spec, generator: torch.Generator) -> Any:
    """True where x (N, *) is to be kept, broadcastable to x. `mask` names what is hidden.

    "center" hides the middle half of every axis, a side its half of one axis (left and right the
    last, top and bottom the one before it), "random:0.5" half of all positions, drawn per item.
    Items without space axes are masked along their features; items that end early along what is
    real of them, their end with their right side. Of items of parts and of columns, names hide
    those ("age,job"), and "random:0.5" hides each with that probability. Of runs in one sequence
    (pictures, words) sides and chance hide tokens of those that are there, and never the marks that
    say so. "auto" is "center", of parts and columns "random:0.5".
    """
    names = getattr(spec, "names", None)
    if mask == "auto":
        mask = "random:0.5" if isinstance(spec, ProductSpec) or names else "center"
    if isinstance(spec, ProductSpec):
        return _known_parts(mask, x, spec, generator)
    if names and mask.partition(":")[0] not in (*SIDES, "random"):
        hidden = _named(mask, names)
        return torch.tensor([name not in hidden for name in names], device=x.device)[None]
    if (real := spec.mask(x)) is not None:
        return _known_of_ended(mask, x, real, generator)
    known = _known(mask, x, spec.space, generator)
    if spec.runs is not None:
        return known | ~spec.within_runs(x)
    return known[:, [names.index(name) for name in names]] if names else known  # together


def _known_parts(
    mask: str, x: dict[str, Tensor], spec: ProductSpec, generator: torch.Generator
) -> dict[str, Tensor]:
    name, _, share = mask.partition(":")
    known = {}
    if name == "random":
        prob = _share(share or "0.5")
        for part, value in x.items():
            keep = rand((len(value), *(1,) * (value.dim() - 1)), generator) >= prob
            known[part] = keep.to(value.device).expand(value.shape)
        return known
    hidden = _named(mask, spec.parts)
    return {n: torch.full_like(v, n not in hidden, dtype=torch.bool) for n, v in x.items()}


def _named(mask: str, names: Collection[str]) -> list[str]:
    """The parts that a mask names. Raises `RecipeError` for one that there is not."""
    hidden = [each.strip() for each in mask.split(",")]
    for each in hidden:
        if each not in names:
            raise RecipeError(
                f"the items have no part {each!r}.{did_you_mean(each, names)}",
                found=mask,
                expected=f"names of {', '.join(dict.fromkeys(names))}; or random:0.5",
            )
    return hidden


def _known_of_ended(mask: str, x: Tensor, real: Tensor, generator: torch.Generator) -> Tensor:
    """As `_known`, along what is real of each item (N, L)."""
    name, _, share = mask.partition(":")
    if name == "random":
        return _scattered(share or "0.5", x, tuple(x.shape[1:]), generator) | ~real
    _check_name(name, mask)
    place = torch.arange(x.shape[1], device=x.device) / real.sum(1, keepdim=True)
    hidden = {
        "center": (place >= 0.25) & (place < 0.75),
        "left": place < 0.5, "top": place < 0.5, "right": place >= 0.5, "bottom": place >= 0.5,
    }  # fmt: skip
    return ~hidden[name]


def _known(mask: str, x: Tensor, space: tuple[int, ...], generator: torch.Generator) -> Tensor:
    axes = space or tuple(x.shape[1:])
    name, _, share = mask.partition(":")
    if name == "random":
        return _scattered(share or "0.5", x, axes, generator)
    _check_name(name, mask)
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


def _check_name(name: str, mask: str) -> None:
    if name not in SIDES:
        raise RecipeError(
            f"there is no mask {mask!r}.{did_you_mean(name, (*SIDES, 'random'))}",
            found=mask,
            expected=", ".join((*SIDES, "random:0.5")),
        )


def check_known(known: Any, x: Any) -> Any:
    """A ready mask, bool and of the shape of x; raises `RecipeError` when it does not fit."""
    if isinstance(x, dict):
        return {name: check_known(known[name], part) for name, part in x.items()}
    try:
        wide = known.expand(x.shape)
    except RuntimeError as error:
        raise RecipeError(
            "the mask does not fit the items",
            found=tuple(known.shape),
            expected=f"broadcastable to {tuple(x.shape)}",
        ) from error
    return wide.to(device=x.device, dtype=torch.bool)


def _share(text: str) -> float:
    try:
        prob = float(text)
    except ValueError:
        prob = -1.0
    if not 0 < prob <= 1:
        raise RecipeError(
            "random needs the share to hide", found=text, expected="random:0.5, in (0, 1]"
        )
    return prob


def _scattered(share: str, x: Tensor, axes: tuple[int, ...], generator: torch.Generator) -> Tensor:
    prob = _share(share)
    shape = (len(x), *(1,) * (x.dim() - 1 - len(axes)), *axes)
    return (rand(shape, generator) >= prob).to(x.device)
