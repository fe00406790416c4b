r"""Weights that are whole numbers of eight bits, times one number for each output,

    w = scale n,    n in -127 .. 127,    scale = max |w| / 127 of the output

or of four, times one number for each group of a few inputs:

    w = scale n,    n in -8 .. 7,    scale of a group: that of several with the least square error

A layer that has such weights holds them beside its `weight`, which is the same in float32: whoever
reads weights reads that one, and what is faster with whole numbers asks for `rounded`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OWN = "int8"  # what whole weights are called within their layer
MOST = 127
SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)  # of the scale with which the largest weight is kept


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

    def __init__(self, weight: Tensor, group: int) -> None:
        super().__init__()
        self.shape = tuple(weight.shape)
        flat = weight.detach().flatten(1).float()
        grouped = F.pad(flat, (0, -flat.shape[1] % group)).reshape(
            len(flat), -1, group
        )  # (O, G, g)
        scale = _least_error(grouped).half()
        whole = (grouped / scale.float()[..., None]).nan_to_num(0).round().clamp(-8, 7)
        pairs = (whole + 8).to(torch.uint8).reshape(len(flat), -1, 2)
        self.register_buffer("halves", pairs[..., 0] | pairs[..., 1] << 4)
        self.register_buffer("scale", scale)

    def weight(self) -> Tensor:
        """What they stand for, in float32."""
        pairs = torch.stack([self.halves & 15, self.halves >> 4], -1).flatten(1)
        grouped = (pairs.float() - 8).reshape(*self.scale.shape, -1)
        flat = (grouped * self.scale.float()[..., None]).flatten(1)
        num = math.prod(self.shape[1:])
        return flat[:, :num].reshape(self.shape)


def _least_error(grouped: Tensor) -> Tensor:
    """Of each group (O, G, g) the scale among some with which rounding errs least: (O, G). Which
    end of -8 .. 7 the largest weight goes to is tried both ways."""
    largest = grouped.gather(-1, grouped.abs().argmax(-1, keepdim=True))[..., 0]
    best = torch.zeros_like(largest)
    least = torch.full_like(largest, torch.inf)
    for share in SHARES:
        for most in (-8, 7):
            scale = (share * largest / most).half().float()
            safe = torch.where(scale == 0, 1.0, scale)[..., None]
            error = ((grouped / safe).round().clamp(-8, 7) * safe - grouped).square().sum(-1)
            better = error < least
            best, least = torch.where(better, scale, best), torch.where(better, error, least)
    return best


def rounded(layer: nn.Module) -> Rounded | None:
    """The whole weights of a layer, if it has them and they are to be read."""
    own = layer._modules.get(OWN)
    return own if isinstance(own, Rounded) and own.is_read else None


def _beside(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.view(-1, *(1,) * (weight.dim() - 1))
