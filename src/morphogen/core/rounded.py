r"""Weights that are whole numbers of eight bits, times one number for each output,

    w = scale n,    n in -127 .. 127,    scale = max |w| / 127 of the output

or of four, between the least and the largest of each group of a few inputs:

    w = least + scale n,    n in 0 .. 15,    of several, those with the least square error

A layer that has such weights holds them beside its `weight`, which is the same in float32: whoever
reads weights reads that one, and what is faster with whole numbers asks for `rounded`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OWN = "int8"  # what whole weights are called within their layer
MOST = 127
LEVELS = 15
LAYERS = (
    nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d,
    nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)  # of a group's range, the rest being cut off


class Rounded(nn.Module):
    """The weights of a layer, an output being what its first axis counts."""

    whole: Tensor  # (O, ...), int8
    scale: Tensor  # (O,)

    def __init__(self, weight: Tensor, is_read: bool = True) -> None:
        super().__init__()
        self.is_read = is_read  # in place of the float32, where that is faster
        scale = weight.flatten(1).abs().amax(1) / MOST
        scale = torch.where(scale > 0, scale, 1.0)
        whole = (weight / _beside(scale, weight)).round().clamp(-MOST, MOST)
        self.register_buffer("whole", whole.to(torch.int8))
        self.register_buffer("scale", scale)

    def weight(self) -> Tensor:
        """What they stand for, in float32."""
        return self.whole * _beside(self.scale, self.whole)


class Packed(nn.Module):
    """Weights of four bits, two in a byte. An output's weights are cut into groups, in order."""

    halves: Tensor  # (O, I / 2 rounded up to whole groups), uint8
    scale: Tensor  # (O, groups), float16
    least: Tensor  # (O, groups), float16

    def __init__(self, weight: Tensor, group: int) -> None:
        super().__init__()
        self.shape = tuple(weight.shape)
        flat = weight.detach().flatten(1).float()
        padded = F.pad(flat, (0, -flat.shape[1] % group), mode="replicate")
        grouped = padded.reshape(len(flat), -1, group)  # (O, G, g)
        whole, scale, least = _least_error(grouped)
        pairs = whole.to(torch.uint8).reshape(len(flat), -1, 2)
        self.register_buffer("halves", pairs[..., 0] | pairs[..., 1] << 4)
        self.register_buffer("scale", scale)
        self.register_buffer("least", least)

    def weight(self) -> Tensor:
        """What they stand for, in float32."""
        pairs = torch.stack([self.halves & 15, self.halves >> 4], -1).flatten(1)
        grouped = pairs.float().reshape(*self.scale.shape, -1)
        flat = (grouped * self.scale.float()[..., None] + self.least.float()[..., None]).flatten(1)
        num = math.prod(self.shape[1:])
        return flat[:, :num].reshape(self.shape)


def _least_error(grouped: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Groups (O, G, g) -> whole numbers (O, G, g), scale and least (O, G): those of some, with a
    part of the range cut off at both ends or none, that err least."""
    low, high = grouped.amin(-1), grouped.amax(-1)
    middle, error = (low + high) / 2, torch.full_like(low, torch.inf)
    best = torch.zeros_like(grouped), low.half(), low.half()
    for share in SHARES:
        least = (middle + share * (low - middle)).half()
        scale = (share * (high - low) / LEVELS).half()
        step = torch.where(scale == 0, 1.0, scale.float())[..., None]
        whole = ((grouped - least.float()[..., None]) / step).round().clamp(0, LEVELS)
        off = whole * scale.float()[..., None] + least.float()[..., None] - grouped
        found = off.square().sum(-1)
        better, error = found < error, torch.minimum(found, error)
        best = (
            torch.where(better[..., None], whole, best[0]),
            torch.where(better, scale, best[1]),
            torch.where(better, least, best[2]),
        )
    return best


def rounded_layers(family: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers whose weights can be whole numbers, by name."""
    for name, layer in family.named_modules():
        if isinstance(layer, LAYERS) and layer._parameters.get("weight") is not None:
            yield name, layer


def rounded(layer: nn.Module) -> Rounded | None:
    """The whole weights of a layer, if it has them and they are to be read."""
    own = layer._modules.get(OWN)
    return own if isinstance(own, Rounded) and own.is_read else None


def _beside(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.view(-1, *(1,) * (weight.dim() - 1))
