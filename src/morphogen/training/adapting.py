"""Training that begins with a trained bundle: `--from models/base`, with or without an adapter.

The network, its family and the codec of its items are the base's; the data is new. All weights are
trained, or what an adapter (`--adapter lora`) puts beside them. What the base measured of its own
data before it was trained (scales, codebooks) stays as it was.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from morphogen.core import discover
from morphogen.core.adapter import Adapter
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Codec, Report
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.family import Family
from morphogen.core.recipe import (
    Recipe,
    build_adapter,
    build_family,
    build_objective,
    is_on_base,
)
from morphogen.core.schema import check_options
from morphogen.core.spec import TensorSpec
from morphogen.core.start import start_from
from morphogen.core.storage import at_home
from morphogen.core.visible import in_shell
from morphogen.data.dataset import Data
from morphogen.data.modality import find_modality
from morphogen.data.packing import Packed
from morphogen.data.places import LOAD

# A tenth of the rate of an adapter, small batches: fewer steps than from nothing, each of more use.
TRAIN_DEFAULTS = {
    "optimizer": "adamw", "lr": 3e-4, "batch_size": 16, "warmup": 0.05, "weight_decay": 0.0,
}  # fmt: skip
POSITIONS = 2048  # of sequences in a step, at most: what a network costs goes by these
FEW = 8  # windows of one document each
READING = ("name", "view", *LOAD)  # not the codec's


def opened(recipe: Recipe, trust: bool = False) -> Bundle:
    """The bundle that a recipe starts from, an adapter in the weights of its base. Raises
    `RefusedPair` for quantised weights, and `RecipeError` where what is put on trains nothing."""
    adapter = build_adapter(recipe)
    if adapter is not None and not adapter.on_base:
        raise RecipeError(
            f"{recipe.wrapper['name']} rounds what is trained, and trains nothing",
            found=f"wrapper.name={recipe.wrapper['name']}",
            expected="--adapter lora, prompt or partial",
            hint=f"morphogen export BUNDLE --format {recipe.wrapper['name']} --to FOLDER, after it",
        )
    base = Bundle.open(recipe.start["from"], trust=trust)
    if base.recipe.driver:
        raise RefusedPair(
            "a model that another library runs is not trained here",
            found=f"{base.path}, driven by {base.recipe.driver['name']}",
            hint="train it with that library and import it again; or begin with one of our own",
        )
    if base.recipe.wrapper and not is_on_base(base.recipe.to_json()):
        raise RefusedPair(
            "a run starts from plain weights: what is rounded is not adapted",
            found=f"{base.path}, with {base.recipe.wrapper['name']}",
            hint=f"morphogen export {in_shell(base.path)} --format bundle --to "
            f"{in_shell(f'{base.path}-whole')}, first",
        )
    return replace(base.whole(), path=base.path)


def with_base(recipe: Recipe, base: Bundle) -> Recipe:
    """A recipe with the family and the network of the base, as its objective changes them. Raises
    `RecipeError` where it asks for others."""
    changes = getattr(build_objective(recipe), "changes", None)
    changed = {} if changes is None else changes(base.family)
    tables = {"family": base.recipe.family | changed, "backbone": dict(base.recipe.backbone)}
    for table, own in tables.items():
        for key, value in getattr(recipe, table).items():
            if str(own.get(key)) != str(value):
                raise RecipeError(
                    "what starts from a bundle keeps its family and its network",
                    found=f"{table}.{key}={value}",
                    expected=f"{table}.{key}={own.get(key)}, as the base has it",
                    where=base.path,
                    hint="leave it out, or train from nothing, without --from",
                )
    return replace(recipe, **tables)


def codec_on(base: Bundle, source: Data | Path | str, recipe: Recipe) -> Codec:
    """The codec that reads new data for the base: its own, or one of the data's kind that encodes
    to what the base has learned (conversations, for a model of text)."""
    own: Any = base.codec
    asked = {name: value for name, value in recipe.modality.items() if name not in READING}
    name = recipe.modality.get("name")
    if name is None and not isinstance(source, Data):
        name = find_modality(at_home(source))
    if name is not None and name != discover.name_of(type(own.innermost)):
        kind = discover.find("modality", name)
        network: Any = getattr(base.family, "network", None)
        options = check_options(kind, asked, "modality")
        onto = getattr(kind, "onto", None)  # most kinds encode to nothing that others have learned
        if onto is not None and (found := onto(own, network, **options)) is not None:
            codec: Any = found
            theirs = base.origin.get("chat_template")
            writes = hasattr(codec, "written_by") and not hasattr(own, "template")
            if theirs and writes and "template" not in options:
                codec.written_by(theirs, base.origin.get("marks"))
            if hasattr(codec, "start"):
                codec.start = getattr(base.family, "start", None)
            return _shortened(codec, source)
    if "length" in asked and hasattr(own, "shorten") and not isinstance(source, Data):
        own.length = check_options(type(own), asked, "modality")["length"]
        del asked["length"]
    if asked:
        raise RecipeError(
            "what starts from a bundle reads data as its codec was fitted",
            found=", ".join(f"modality.{key}={value}" for key, value in asked.items()),
            where=base.path,
            hint="leave it out",
        )
    return _shortened(own, source)


def _shortened(codec: Any, source: Data | Path | str) -> Codec:
    """The codec with windows no longer than what it is to read needs, where it has windows."""
    if hasattr(codec, "shorten") and not isinstance(source, Data):
        codec.shorten(codec.read(source, Report(str(source))))
    found: Codec = codec
    return found


def train_defaults(recipe: Recipe, data: Data) -> dict[str, Any]:
    """How a model is trained that was trained before."""
    adapter = build_adapter(recipe)
    found: dict[str, Any] = TRAIN_DEFAULTS | ({} if adapter is None else adapter.train_defaults)
    spec = data.spec
    if isinstance(spec, TensorSpec) and spec.boundary is not None:  # windows of a stream
        alone = recipe.backbone.get("across_documents")  # each document has a window of its own
        mostly_empty = alone and isinstance(data.train, Packed)
        fitting = FEW if mostly_empty else POSITIONS // spec.num_values
        found["batch_size"] = max(min(found["batch_size"], fitting), 1)
    return found


def adapted(base: Bundle, recipe: Recipe, data: Data) -> Family:
    """The base's family for the new data, with its adapter put on. The base is used up."""
    family = base.family
    if data.spec != family.spec:  # of another length
        with torch.random.fork_rng(devices=[]):
            family = build_family(replace(recipe, wrapper={}), data.spec, base.family.built_for)
        try:
            family.load_state_dict(base.family.state_dict())
        except RuntimeError as error:
            raise RefusedPair(
                f"the weights of the base do not fit this data: {error}",
                found=str(data.spec),
                expected=str(base.family.spec),
            ) from error
    adapter = build_adapter(recipe)
    if adapter is not None:
        adapter.put_on(family)
    return family


def started(base: Bundle, recipe: Recipe, out: Path) -> Recipe:
    """A recipe that says where it starts from, for a run in the folder `out`."""
    assert base.path is not None
    return replace(recipe, start=start_from(base.path, out))


def told(family: Family) -> str:
    """What is trained, in one line."""
    every = list(family.parameters())
    own = [each for each in every if each.requires_grad]
    count, total = (sum(p.numel() for p in some) for some in (own, every))
    adapter: Adapter | None = family.adapter
    what = "all weights" if adapter is None else discover.name_of(type(adapter))
    return f"adapts a trained model: {what}, {count:,} of {total:,} parameters are trained"
