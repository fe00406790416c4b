"""Mixing and disturbing latents, for the tasks that take the route over an encoder and a decoder.

A model whose latents follow a standard Gaussian says so with `latent_prior = "gaussian"`. Then
nearly all of them lie at radius sqrt(D), and straight lines leave that shell: the tasks go round
it. Real latents with no such prior are mixed linearly; token latents by exchanging positions.

Legend: B batch, Z latent shape.
"""

from __future__ import annotations

import torch
from torch import Tensor

from morphogen.core.capability import CanEncode
from morphogen.core.gaussian_path import wide
from morphogen.core.random import rand, randint, randn


def is_gaussian(model: object) -> bool:
    """Whether the model's latents follow N(0, I)."""
    return getattr(model, "latent_prior", None) == "gaussian"


def slerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """From a to b, (B, *), along the great circle (Shoemake 1985); weight (B,) in [0, 1].

    Directions turn at constant speed and norms change linearly, so equal norms are kept.
    """
    flat_a, flat_b, w = a.flatten(1), b.flatten(1), weight[:, None].to(a)
    norm_a, norm_b = flat_a.norm(dim=1, keepdim=True), flat_b.norm(dim=1, keepdim=True)
    unit_a, unit_b = flat_a / norm_a.clamp(min=1e-12), flat_b / norm_b.clamp(min=1e-12)
    angle = torch.arccos((unit_a * unit_b).sum(1, keepdim=True).clamp(-1, 1))
    sine = angle.sin()
    turned = (((1 - w) * angle).sin() * unit_a + (w * angle).sin() * unit_b) / sine.clamp(min=1e-6)
    # Nearly parallel, or opposite where no great circle is the shortest: the straight line.
    direction = torch.where(sine > 1e-4, turned, (1 - w) * unit_a + w * unit_b)
    return (direction * ((1 - w) * norm_a + w * norm_b)).view_as(a)


def mix(model: CanEncode, a: Tensor, b: Tensor, weight: Tensor, turn: Tensor) -> Tensor:
    """From latent a to latent b (B, Z); weight (B,) in [0, 1].

    `turn` (Z,) in [0, 1) orders the positions of token latents: each changes when weight passes it.
    """
    if model.latent_spec.kind == "token":
        return torch.where(wide(weight, a.to(turn.dtype)) > turn.to(a.device), b, a)
    if is_gaussian(model):
        return slerp(a, b, weight)
    w = wide(weight, a)
    return (1 - w) * a + w * b


def disturb(model: CanEncode, z: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """z (B, Z) with a share `strength` of it made random.

    Gaussian prior: sqrt(1 - s^2) z + s eps, which leaves the prior as it is. Other real latents:
    z + s std(z) eps. Tokens: each position is redrawn with probability s.
    """
    if model.latent_spec.kind == "token":
        redraw = rand(z.shape, generator).to(z.device) < strength
        return torch.where(
            redraw, randint(model.latent_spec.vocab_size or 1, z.shape, generator).to(z), z
        )
    eps = randn(z.shape, generator).to(z)
    if is_gaussian(model):
        return (1 - strength**2) ** 0.5 * z + strength * eps
    spread = z.flatten(1).std(dim=1, correction=0)
    return z + strength * wide(spread, z) * eps
