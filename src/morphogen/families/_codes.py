"""What an item is coded as: one vector, or a vector for each place of a coarser grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from morphogen.core.errors import RecipeError
from morphogen.core.gaussian_path import wide
from morphogen.core.random import rand, randn
from morphogen.core.spec import Spec, TensorSpec


def code_spec(spec: Spec, dim: int, stride: int | None) -> TensorSpec:
    """`dim` numbers for a whole item (dim,), or, with a stride, for every block of so many
    positions along each axis, (dim, *space / stride). Raises `RecipeError` where an item has no
    axes, or the blocks do not fill them.

    A code with places is read and written by convolutions alone, which see the same things
    wherever they are: far fewer weights than a layer from all places to all numbers has, so that a
    few thousand pictures do not teach it by heart.
    """
    if stride is None:
        return TensorSpec.vector(dim)
    has_axes = isinstance(spec, TensorSpec) and spec.kind == "real" and bool(spec.space)
    if not has_axes or any(size % stride for size in spec.space):
        raise RecipeError(
            "a code cannot have places here",
            found=f"stride={stride} for {spec}",
            expected="real values along axes whose lengths the stride divides",
            where="family.stride",
            hint="leave out family.stride",
        )
    return TensorSpec("real", (dim, *(size // stride for size in spec.space)), layout=spec.layout)


def check_noise(**deviations: float) -> None:
    """Raise `RecipeError` for an option, by name, that is no amount of noise."""
    for name, most in deviations.items():
        if not 0 <= most < math.inf:
            raise RecipeError(
                "an amount of noise is out of range", found=most, expected="0, for none, or above",
                where=f"family.{name}", hint=f"--set family.{name}={abs(most) if most < 0 else 0}",
            )  # fmt: skip


def disturbed(z: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Codes z + u s eps, (B, Z) or (B, Z, *places), u ~ U(0, most) for each item, s the deviation
    of a code: what a model of codes draws is never quite one, and a decoder that has seen such
    forgives it (Zheng et al. 2025, arXiv:2510.11690, noise-augmented decoding)."""
    if not most:
        return z
    with torch.no_grad():
        deviation = z.std((0, *range(2, z.dim())), correction=0, keepdim=True)  # (1, Z, ..)
        amount = wide(most * rand((len(z),), generator), z)
    return z + amount * deviation * randn(z.shape, generator).to(z)
