"""Weights that are whole numbers of eight bits, times one number for each output.

    w = scale n,    n in -127 .. 127,    scale = max |w| / 127 of the output

A layer that has such weights holds them beside its `weight`, which is the same in float32: whoever
reads weights reads that one, and what is faster with whole numbers asks for `rounded`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

OWN = "int8"  # what whole weights are called within their layer
MOST = 127


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


def rounded(layer: nn.Module) -> Rounded | None:
    """The whole weights of a layer, if it has them and they are to be read."""
    own = layer._modules.get(OWN)
    return own if isinstance(own, Rounded) and own.is_read else None


def _beside(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.view(-1, *(1,) * (weight.dim() - 1))
