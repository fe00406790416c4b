"""Published models that other libraries run: which driver opens a folder, and the bundle of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.errors import RecipeError
from morphogen.core.recipe import Recipe

TAKEN = {".safetensors", ".json", ".txt", ".bin"}  # suffixes of the files that make a model
FETCHED = ["*.json", "*.safetensors", "*.jinja", "README.md", "LICENSE*"]  # of the Hub


def driver_of(place: Path) -> Any:
    """The driver that opens a folder; None where it is no such, or of our own networks."""
    if not place.is_dir():
        return None
    for name in discover.names("driver"):
        found = discover.find("driver", name)
        if found.recognises(place):
            return found
    return None


def model_types() -> set[str]:
    """What config.json calls the models that some driver opens."""
    drivers = (discover.find("driver", name) for name in discover.names("driver"))
    return {kind for driver in drivers for kind in driver.model_types}


def drive(driver: Any, folder: Path, size: int | None = None) -> Bundle:
    """The model in a folder as a bundle, which sees pictures with sides of `size` where that is
    said. Raises `BundleError` for what does not fit, `RecipeError` where it has one size alone."""
    if size is not None and not driver.any_size:
        raise RecipeError(
            "this model sees its items in one size alone", found=f"--size {size}",
            hint="leave it out",
        )  # fmt: skip
    model, codec = driver.opened(folder, **({} if size is None else {"size": size}))
    name = discover.name_of(driver)
    modality = {"name": discover.name_of(type(codec))}
    recipe = Recipe(modality=modality, driver={"name": name, **model.described()})
    return Bundle(model, codec, recipe)


def wanted(files: Sequence[str]) -> list[str]:
    """Which files of a model in the Hub are fetched, as patterns: nothing is fetched twice, in
    halves and whole, and nothing that would have to be unpickled."""
    names = set(files)
    if "model_index.json" in names:
        weights = [name for name in files if name.endswith(".safetensors") and "/" in name]
        plain = [name for name in weights if ".fp16." not in name and ".non_ema." not in name]
        folders = {name.rpartition("/")[0] for name in plain}
        half = [n for n in weights if ".fp16." in n and n.rpartition("/")[0] not in folders]
        told = ["*.json", "*.txt", "README.md", "LICENSE*"]
        return [*told, *plain, *half]
    if "model.bin" in names and any(name.startswith("vocabulary.") for name in names):
        return ["*.json", "*.txt", "model.bin", "README.md", "LICENSE*"]  # of CTranslate2
    return [*FETCHED, "merges.txt"]
