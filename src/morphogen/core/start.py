"""The bundle that an adapter was trained on: found again where it was, and known by its hash.

[start]  from = "../base"      from the folder of the adapter; or beside it, under that name
         sha256 = "5f1c..."    of the base's weights: an adapter of others would do anything
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from morphogen.core.codec import Codec
from morphogen.core.codec_storage import rebuild_codec
from morphogen.core.config import read_config, read_unchanged
from morphogen.core.errors import BundleError
from morphogen.core.folder import CODEC, MODEL
from morphogen.core.recipe import Recipe
from morphogen.core.storage import expanded


def start_from(base: Path, out: Path) -> dict[str, Any]:
    """The table [start] of a run in the folder `out` that begins with the bundle `base`."""
    return {
        "from": os.path.relpath(base.absolute(), out.absolute()),
        "sha256": read_config(base)["files"][MODEL],
    }


def checked_base(start: Mapping[str, Any], path: Path) -> Path:
    """Where the base of what lies in the folder `path` is. Raises `BundleError` where it is not
    there, or is another one."""
    base = _base_of(start, path)
    check_base(base, start, path)
    return base


def check_base(base: Path, start: Mapping[str, Any], where: object) -> None:
    """Raise `BundleError` unless the bundle `base` is that which an adapter was trained on."""
    found = read_config(base)["files"][MODEL]
    if found != start.get("sha256"):
        raise BundleError(
            "this adapter was trained on another base",
            found=f"{base}, whose weights have the sha256 {found[:16]}...",
            expected=f"sha256 {start.get('sha256', '?')[:16]}...",
            where=where,
            hint="put the base back that it was trained on, or train the adapter anew",
        )


def read_adapter(path: Path | str, base: Path) -> tuple[Codec, Recipe, dict[str, Tensor]]:
    """The codec, the recipe and the weights of an adapter of `base`, for who puts them on it."""
    path = expanded(path)
    config = read_config(path)
    recipe = Recipe.from_json(config["recipe"])
    if not recipe.wrapper:
        raise BundleError("this is a whole model, and no adapter", where=path)
    check_base(base, recipe.start, path)
    if wrapper := read_config(base)["recipe"].get("wrapper"):
        raise BundleError(
            "adapters that take turns are of a base with plain weights",
            found=f"{base}, with {wrapper.get('name', 'lora')}", where=path,
            hint=f"morphogen export {base} --format bundle --to {base}-whole",
        )  # fmt: skip
    return _codec(path, config), recipe, read_unchanged(path / MODEL, config["files"][MODEL])


def codec_of(path: Path | str) -> Codec:
    """The codec of a bundle, without its model. Raises `BundleError`."""
    path = expanded(path)
    return _codec(path, read_config(path))


def _codec(path: Path, config: Mapping[str, Any]) -> Codec:
    files = config["files"]
    tensors = read_unchanged(path / CODEC, files[CODEC]) if CODEC in files else {}
    return rebuild_codec(config["codec"], tensors)


def _base_of(start: Mapping[str, Any], path: Path) -> Path:
    named = Path(start.get("from", ""))
    # As `start_from` wrote it: by names, for the folder of a run may not be there yet.
    places = [Path(os.path.normpath(path.absolute() / named)), path.absolute().parent / named.name]
    for place in places:
        if named.name and (place / "config.json").is_file():
            return place
    raise BundleError(
        "the base of this adapter is not where it was",
        found="no bundle",
        expected=f"its base, with the weights {start.get('sha256', '?')[:16]}...",
        where=places[0],
        hint=f"put the base there, or into {places[1]}",
    )
