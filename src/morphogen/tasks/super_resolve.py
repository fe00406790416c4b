r"""Find a fine item that a coarse one could be the average of.

A pools by averaging blocks of factor^d values; its pseudo-inverse A^+ repeats each value over its
block. Every estimate is moved to the nearest item that pools to y exactly:

    x <- x + A^+ (y - A x)

    given         draw from p(x | y): by a model whose condition is a coarse picture (Saharia et al.
                  2021, SR3), such as --condition coarse makes; so models form a chain
    denoise       applied to each E[x | x_t] on the way down the path (ILVR, Choi et al. 2021; DDNM,
                  Wang et al. 2023)
    reconstruct   applied after each decode(encode(x)), again and again
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from morphogen.core.capability import CanDenoise, CanReconstruct, CanSample, refuses
from morphogen.core.errors import RecipeError
from morphogen.core.random import randn
from morphogen.core.result import Result
from morphogen.core.spec import TensorSpec
from morphogen.tasks._path import in_range, integrate
from morphogen.tasks._routes import Conditions, beside, choose, chunks, is_grid, only, per_item


@refuses(only("real values on a grid or in a sequence, which can be finer", is_grid))
def super_resolve(
    model: CanDenoise | CanReconstruct,
    x: Tensor,
    *,
    cond: Conditions | None = None,  # conditions by name, each (N, ...), for the denoising route
    generator: torch.Generator,
    factor: int = 2,  # how many times finer along every space axis
    num_steps: int = 50,  # steps of either route
    route: Literal["given", "denoise", "reconstruct"] | None = None,  # force a way
) -> Result:
    """Make items finer by `factor`: rows of the coarse input, the result, and the original.

    Items of the model's size are first made coarse, which shows how well it does; items that are
    already coarse, (N, C, *space / factor), are taken as they are.
    """
    shape: tuple[int, ...] = getattr(model, "spec").shape  # noqa: B009
    coarse_shape = _coarse_shape(shape, factor)
    is_coarse = tuple(x.shape[1:]) == coarse_shape
    if not is_coarse and tuple(x.shape[1:]) != shape:
        raise RecipeError(
            "the items are neither coarse nor of the model's size",
            found=tuple(x.shape[1:]),
            expected=f"{coarse_shape} or {shape}",
        )
    y = x if is_coarse else pool(x, factor)

    def by_projection(m: CanDenoise, part: slice, share: Conditions | None) -> Tensor:
        target = y[part]
        noise = randn((len(target), *shape), generator).to(target)
        return integrate(
            m, noise, 1.0, cond=share, generator=generator, num_steps=num_steps,
            sampler="ancestral", correct=lambda estimate, t: project(estimate, target, factor),
        )  # fmt: skip

    def by_gibbs(m: CanReconstruct, part: slice, share: Conditions | None) -> Tensor:
        fine = unpool(y[part], factor)
        for _ in range(num_steps):
            fine = project(m.decode(m.encode(fine)).to(fine), y[part], factor)
        return fine

    given = _coarse_condition(model, coarse_shape)

    def by_given(m: CanSample, part: slice, share: Conditions | None) -> Tensor:
        said = {**(share or {}), str(given): y[part]}
        fine: Tensor = m.sample(len(y[part]), cond=said, generator=generator)
        return fine.to(y)

    routes: dict[str, Any] = {"given": by_given} if given is not None else {}
    routes |= {"denoise": by_projection, "reconstruct": by_gibbs}
    name, run = choose(model, routes, route)
    fine = torch.cat([run(part, share) for part, share in chunks(len(y), cond)])
    for _ in range(10):  # both constraints are convex: alternating projections meet
        fine = project(in_range(model, fine), y, factor)
    values = {"inconsistency": per_item((pool(fine, factor) - y).abs())}
    if is_coarse:
        return Result(beside(unpool(y, factor), fine), values, name, 2)
    values["squared_error"] = per_item((fine - x).square())
    return Result(beside(unpool(y, factor), fine, x), values, name, 3)


def _coarse_condition(model: object, shape: tuple[int, ...]) -> str | None:
    """The model's condition that is a coarse item, of this shape; None of other models."""
    conditions: Mapping[str, TensorSpec] = getattr(model, "conditions", {})
    own: TensorSpec = getattr(model, "spec")  # noqa: B009
    for name, spec in conditions.items():
        if spec.kind == "real" and spec.shape == shape and spec.levels == own.levels:
            return name
    return None


def pool(x: Tensor, factor: int) -> Tensor:
    """A x: average over blocks of factor along every space axis. (N, C, *S) -> (N, C, *S / f)."""
    for axis in range(2, x.dim()):
        x = x.reshape(*x.shape[:axis], -1, factor, *x.shape[axis + 1 :]).mean(axis + 1)
    return x


def unpool(y: Tensor, factor: int) -> Tensor:
    """A^+ y: each value repeated over its block. (N, C, *S / f) -> (N, C, *S)."""
    for axis in range(2, y.dim()):
        y = y.repeat_interleave(factor, dim=axis)
    return y


def project(x: Tensor, y: Tensor, factor: int) -> Tensor:
    """The item nearest to x that pools to y: x + A^+ (y - A x)."""
    return x + unpool(y - pool(x, factor), factor)


def _coarse_shape(shape: tuple[int, ...], factor: int) -> tuple[int, ...]:
    """The shape of coarse items; raises `RecipeError` where `factor` does not divide it."""
    space = shape[1:]
    if factor < 2 or not space or any(size % factor for size in space):
        raise RecipeError(
            f"items cannot be made {factor} times finer",
            found=f"space axes {space}" if space else "no space axes",
            expected="a factor of at least 2 that divides every space axis",
        )
    return (shape[0], *(size // factor for size in space))
