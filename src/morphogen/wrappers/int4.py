"""Weights of four bits: a trained model in about a sixth of its size, and no faster.

    w = least + scale n,    n in 0 .. 15,    two numbers of 16 bits for each group of inputs

What a group's range is cut to is what its weights are rounded by with the least square error, so
that a single large one does not coarsen its neighbours (Frantar et al. 2022, arXiv:2210.17323,
compare with rounding in such groups). What words are told apart by, embeddings and the
layer that tells tokens, has eight bits: it is read row by row, and errors in it are seen at once.

All that computes reads the float32 that the numbers stand for. PyTorch's own product of four-bit
weights takes 20 times as long as float32 with activations of float32 on CPUs, and with those of 16
bits changes what comes out.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from morphogen.core.bundle import Bundle
from morphogen.core.errors import RecipeError
from morphogen.core.rounded import Packed, Rounded
from morphogen.wrappers._rounding import Rounding, in_whole_numbers

GROUP = 32
TELLS = "lm_head"


class Int4(Rounding):
    """Rounds the weights of layers to whole numbers of four bits, embeddings to eight."""

    def __init__(
        self,
        *,
        group: int = GROUP,  # inputs that share a scale
    ) -> None:
        if group < 2 or group % 2:
            raise RecipeError("two weights share a byte", found=f"group={group}",
                              expected="an even number", where="wrapper.group")  # fmt: skip
        self.group = group

    def whole(self, name: str, layer: Any) -> nn.Module:
        weight = layer.weight.detach()
        if isinstance(layer, nn.Embedding) or name.rpartition(".")[2] == TELLS:
            return Rounded(weight, is_read=False)
        return Packed(weight, self.group)


def in_int4(bundle: Bundle, *, group: int = GROUP) -> Bundle:
    """The same model with weights of four bits: see `in_whole_numbers`."""
    return in_whole_numbers(bundle, Int4(group=group), {"name": "int4", "group": group})
