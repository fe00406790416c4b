"""What wrappers share that put whole numbers in place of the weights of layers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import nn

from morphogen.core.bundle import Bundle
from morphogen.core.errors import BundleError, RefusedPair
from morphogen.core.rounded import OWN, rounded_layers
from morphogen.core.visible import in_shell


class Rounding:
    """Holds whole numbers beside the weights of layers, which are what these stand for."""

    train_defaults: ClassVar[dict[str, Any]] = {}
    on_base: ClassVar[bool] = False

    def whole(self, name: str, layer: Any) -> nn.Module:
        """The whole numbers that stand for the weights of a layer of this name."""
        raise NotImplementedError

    def put_on(self, family: Any) -> None:
        """Round the weights of a family."""
        layers = list(rounded_layers(family))
        for name, layer in layers:
            layer.add_module(OWN, self.whole(name, layer))
        weights = {id(layer.weight) for _, layer in layers}
        named = list(family.named_parameters(remove_duplicate=False))
        for _, parameter in named:
            parameter.requires_grad_(False)
        given = frozenset(name for name, parameter in named if id(parameter) in weights)
        family.adapter, family.given = self, given
        self.merge(family)

    def merge(self, family: Any) -> None:
        """Let weights be what the whole numbers say."""
        for _, layer in rounded_layers(family):
            layer.weight.data = layer._modules[OWN].weight()

    def split(self, family: Any) -> None:
        """Nothing: what the weights were before is gone."""


def in_whole_numbers(bundle: Bundle, rounding: Rounding, wrapper: Mapping[str, Any]) -> Bundle:
    """The same model with weights of few bits; what was measured of it is not what it is now.

    Raises `BundleError` for one that has such weights, and `RefusedPair` for an adapter, and for a
    model without any layer that can have them.
    """
    if isinstance(bundle.family.adapter, Rounding):
        bits = str(bundle.recipe.wrapper.get("name", "int8")).removeprefix("int")
        raise BundleError(
            "the bundle is quantised already", found=f"weights of {bits} bits", where=bundle.path
        )
    if bundle.family.adapter is not None:
        raise RefusedPair(
            "an adapter is not quantised apart from its base",
            found=f"{bundle.path}, {bundle.recipe.wrapper.get('name')} on another bundle",
            hint=f"morphogen export {in_shell(bundle.path)} --format bundle --to "
            f"{in_shell(f'{bundle.path}-whole')}, first",
        )
    family = copy.deepcopy(bundle.family)
    if next(rounded_layers(family), None) is None:
        raise RefusedPair(
            "this model has no layers whose weights are rounded",
            found=type(family).__name__,
            expected="linear layers, convolutions or embeddings",
        )
    rounding.put_on(family)
    recipe = replace(bundle.recipe, wrapper=dict(wrapper))
    return replace(bundle, family=family, recipe=recipe, metrics={}, path=None)
