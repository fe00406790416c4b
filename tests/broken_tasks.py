"""Tasks that each break one promise, for the kit to catch."""

from __future__ import annotations

import torch

from morphogen.core.capability import CanSample
from morphogen.core.errors import RefusedPair
from morphogen.core.result import Result


def no_annotation(
    model,
    *,
    cond: dict | None = None,  # conditions
    generator,
):
    """Does not say what it needs."""
    return Result(route="sample")


def no_generator(
    model: CanSample,
    *,
    cond: dict | None = None,  # conditions
):
    """Takes no generator."""
    return Result(route="sample")


def no_route(
    model: CanSample,
    *,
    cond: dict | None = None,  # conditions
    generator: torch.Generator,
):
    """Does not say what ran."""
    return Result()


def global_draw(
    model: CanSample,
    *,
    cond: dict | None = None,  # conditions
    generator: torch.Generator,
):
    """Draws from the global generator."""
    return Result(torch.randn(3, *model.spec.shape), route="noise")


def changes_input(
    model: CanSample,
    x: torch.Tensor,
    *,
    cond: dict | None = None,  # conditions
    generator: torch.Generator,
):
    """Writes into its input."""
    x += 1
    return Result(x, route="shift")


def no_comment(
    model: CanSample,
    *,
    cond: dict | None = None,  # conditions
    strength: float = 0.5,
    generator: torch.Generator,
):
    """Has an option that --help cannot explain."""
    return Result(route="sample")


def no_result(
    model: CanSample,
    *,
    cond: dict | None = None,  # conditions
    generator: torch.Generator,
):
    """Returns a tensor."""
    return model.sample(3, generator=generator)


def always_refuses(
    model: CanSample,
    *,
    cond: dict | None = None,  # conditions
    generator: torch.Generator,
):
    """Applies, and then refuses."""
    raise RefusedPair("not today")
