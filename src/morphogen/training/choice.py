"""Which family is trained where none is named: the one that such data is usually learned with, as
its codec says (`Codec.family`); in the latents of a model, the one that learns such latents.

It is settled once, before the data is read and a folder is made, and it is said: what comes after
knows no family but a named one. How large its network is, where the codec says so
(`Codec.network`), is settled once the data is read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Codec
from morphogen.core.recipe import Recipe
from morphogen.core.schema import options
from morphogen.core.storage import at_home
from morphogen.data.dataset import Data
from morphogen.data.modality import find_modality
from morphogen.training.through import around

FACT = "family"  # of the report on data: which family was taken for it, and why


def with_usual_family(
    recipe: Recipe, data: Data | Path | str, through: Bundle | None = None
) -> tuple[Recipe, str | None]:
    """`recipe` with a family, and what there is to say of it: nothing where it was named.

    Raises `DataError` where no codec recognises the data, `RefusedPair` where the model of the
    bundle `through` has no latents.
    """
    if "name" in recipe.family:
        return recipe, None
    codec, called = _learned(recipe, data, through)
    told = f"{codec.family}, as {called} usually learned (others: morphogen list families)"
    return replace(recipe, family={"name": codec.family, **recipe.family}), told


def with_usual_network(recipe: Recipe, codec: Codec, spec: Any) -> Recipe:
    """`recipe` with the options of its backbone that the codec has for so much data
    (`Codec.network`), but for those that are named in it, and those that the backbone has not."""
    if recipe.start or recipe.driver:
        return recipe
    family = discover.find("family", recipe.family_name)
    name = recipe.backbone.get("name") or family.backbone_for(spec)
    known = options(discover.find("backbone", name))
    usual = {option: value for option, value in codec.viewed.network.items() if option in known}
    return replace(recipe, backbone={**usual, **recipe.backbone})


def noting(data: Data, told: str | None) -> Data:
    """The same data, what is `told` of the family among the facts of its report."""
    if told is None:
        return data
    return replace(data, report=replace(data.report, facts={FACT: told, **data.report.facts}))


def choices(data: Data) -> list[str]:
    """What was chosen for the user, who named nothing: the family, the tokens of a text."""
    chosen: dict[str, Any] = {FACT: data.report.facts.get(FACT)}
    chosen |= getattr(data.codec.viewed, "facts", {})
    return [f"{name}: {told}" for name, told in chosen.items() if isinstance(told, str)]


def _learned(recipe: Recipe, data: Data | Path | str, through: Bundle | None) -> tuple[Any, str]:
    """The codec whose items are learned, or its class while nothing is read; what they are."""
    if through is not None:
        codec: Any = around(through)
    elif isinstance(data, Data):
        codec = data.codec.viewed
    else:
        name = recipe.modality.get("name") or find_modality(at_home(data))
        return discover.find("modality", name), f"{name} data is"
    if (model := getattr(codec, "model", None)) is not None:
        return codec, f"{codec.makes} of {discover.name_of(type(model))} are"
    return codec, f"{discover.name_of(type(codec))} data is"
