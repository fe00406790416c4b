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

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from torch import nn

from morphogen.core.bundle import Bundle
from morphogen.core.errors import BundleError, RefusedPair
from morphogen.core.rounded import OWN, Rounded

LAYERS = (
    nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d,
    nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


class Int8:
    """Rounds the weights of layers to whole numbers of eight bits."""

    train_defaults: ClassVar[dict[str, Any]] = {}
    on_base: ClassVar[bool] = False

    def __init__(
        self,
        *,
        products: bool = True,  # tokens are written by whole numbers; no: by their float32
    ) -> None:
        self.products = products

    def put_on(self, family: Any) -> None:
        """Round the weights of a family."""
        layers = list(rounded_layers(family))
        for layer in layers:
            layer.add_module(OWN, Rounded(layer.weight.detach(), self.products))
        weights = {id(layer.weight) for layer in layers}
        named = list(family.named_parameters(remove_duplicate=False))
        for _, parameter in named:
            parameter.requires_grad_(False)
        given = frozenset(name for name, parameter in named if id(parameter) in weights)
        family.adapter, family.given = self, given
        self.merge(family)

    def merge(self, family: Any) -> None:
        """Let weights be what the whole numbers say."""
        for layer in rounded_layers(family):
            layer.weight.data = layer._modules[OWN].weight()

    def split(self, family: Any) -> None:
        """Nothing: what the weights were before is gone."""


def rounded_layers(family: nn.Module) -> Iterator[Any]:
    """The layers that are rounded."""
    for layer in family.modules():
        if isinstance(layer, LAYERS) and layer._parameters.get("weight") is not None:
            yield layer


def in_int8(bundle: Bundle, *, products: bool = True) -> Bundle:
    """The same model with weights of eight bits; what was measured of it is not what it is now.

    Raises `BundleError` for one that has such weights, and `RefusedPair` for an adapter, and for a
    model without any layer that can have them.
    """
    if isinstance(bundle.family.adapter, Int8):
        raise BundleError(
            "the bundle is quantised already", found="weights of eight bits", where=bundle.path
        )
    if bundle.family.adapter is not None:
        raise RefusedPair(
            "an adapter is not quantised apart from its base",
            found=f"{bundle.path}, {bundle.recipe.wrapper.get('name')} on another bundle",
            hint=f"morphogen export {bundle.path} --format bundle --to {bundle.path}-whole, first",
        )
    family = copy.deepcopy(bundle.family)
    if next(rounded_layers(family), None) is None:
        raise RefusedPair(
            "this model has no layers whose weights are rounded",
            found=type(family).__name__,
            expected="linear layers, convolutions or embeddings",
        )
    Int8(products=products).put_on(family)
    recipe = replace(bundle.recipe, wrapper={"name": "int8", "products": products})
    return replace(bundle, family=family, recipe=recipe, metrics={}, path=None)
