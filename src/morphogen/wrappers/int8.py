"""Weights of eight bits: a trained model, a quarter of its size, that writes texts faster.

    w = scale n,    n in -127 .. 127,    scale = max |w| / 127 of each output

Linear layers, convolutions and embeddings are rounded so; offsets, norms and all that is no layer
of these stay as they are. Activations are float32 as ever: a model does what the rounded weights
say, to the last bits. Where a text is written token by token on a CPU the whole numbers are read
themselves; all else reads the float32 that they stand for, made once as the bundle is opened.

Weight-only quantisation with one scale for a row, as in Dettmers et al. 2022 (arXiv:2208.07339),
without its outliers of activations, since these are not rounded.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from morphogen.core.bundle import Bundle
from morphogen.core.rounded import Rounded
from morphogen.wrappers._rounding import Rounding, in_whole_numbers


class Int8(Rounding):
    """Rounds the weights of layers to whole numbers of eight bits."""

    def __init__(
        self,
        *,
        products: bool = True,  # tokens are written by whole numbers; no: by their float32
    ) -> None:
        self.products = products

    def whole(self, name: str, layer: Any) -> nn.Module:
        return Rounded(layer.weight.detach(), self.products)


def in_int8(bundle: Bundle, *, products: bool = True) -> Bundle:
    """The same model with weights of eight bits: see `in_whole_numbers`."""
    wrapper = {"name": "int8", "products": products}
    return in_whole_numbers(bundle, Int8(products=products), wrapper)
