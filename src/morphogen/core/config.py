"""config.json: what rebuilds a model, as JSON, and back again.

    describe(family, codec, recipe)    spec, conditions, recipe and codec
    rebuild(config, ...)               their inverse, with untrained weights
    read_config(folder)                that of a bundle, held against its shape

The same description stands in checkpoints, and in the state of a latent codec. It may come from
anybody, so that nothing is built before all of it was checked, and no network that is larger than
the weights that are there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import morphogen
from morphogen.core.border import (
    COUNT,
    REAL,
    SHA256,
    SIZE,
    Number,
    check_shape,
    read_json,
    read_lines,
    reading,
)
from morphogen.core.codec import Codec
from morphogen.core.codec_storage import describe_codec, rebuild_codec
from morphogen.core.errors import BundleError
from morphogen.core.family import Family, load_own_state
from morphogen.core.folder import CODEC, FORMAT, MODEL, SCHEDULE, VERSION
from morphogen.core.recipe import Recipe, build_adapter, build_family
from morphogen.core.spec import Spec, spec_from_json
from morphogen.core.storage import read_tensors, sha256
from morphogen.core.undrawn import Undrawn
from morphogen.core.visible import in_shell

MOST_VALUES = 2**31  # in one item
MOST_TABLES = 2**26  # values that a network may hold besides those in the file: tables, masks

TENSOR = {
    "kind": ("real", "token"),
    "shape": [SIZE],
    "vocab_size?": (None, SIZE),
    "levels?": (None, SIZE),
    "layout?": ("vector", "sequence", "grid"),
    "end?": (None, COUNT),
    "sizes?": (None, [SIZE]),
    "boundary?": (None, COUNT),
    "runs?": (None, [{"name": str, "length": SIZE, "first": COUNT, "size": SIZE}]),
}
SPEC = (TENSOR, {"parts": {str: TENSOR}, "lengths?": {str: str}})
CODEC_ENTRY: dict[str, Any] = {
    "axis": ("modality", "wrapper"),
    "name": str,
    "view?": str,
    "state": dict,
}
CODEC_ENTRY["conditions?"] = {str: CODEC_ENTRY}
DESCRIPTION = {
    "spec": SPEC,
    "conditions": {str: SPEC},
    "recipe": {
        "modality": dict,
        "family": {"name?": str, "sampler?": (None, str)},
        "backbone": {"name?": (None, str)},
        "train": {"device?": str},
        "start?": {"from?": str, "sha256?": SHA256},
        "wrapper?": {"name?": str},
        "driver?": {"name?": str},
    },
    "codec": CODEC_ENTRY,
}
DATA = {
    "source?": str,
    "digest?": str,
    "options?": dict,
    "num_train?": COUNT,
    "num_test?": COUNT,
    "num_skipped?": COUNT,
    "tags?": {str: {str: COUNT}},
}
RUN = {
    "steps?": COUNT,
    "seconds?": REAL,
    "rolled_back?": [COUNT],
    "kept_step?": COUNT,
    "token_ms?": {str: REAL},
    "environments?": [
        {"from_step": COUNT, "device": str, "num_threads": Number(whole=True, low=1, high=4096)}
    ],
}
ORIGIN = {  # of weights that others made
    "source": str,
    "name?": str,
    "licence?": str,
    "package?": str,
    "quantised?": str,
    "files?": {str: SHA256},
    "chat_template?": str,
    "marks?": {str: str},
}
CONFIG = DESCRIPTION | {
    "format": FORMAT,
    "version": COUNT,
    "data": DATA,
    "priors": {str: [Number(low=-1, high=1)]},
    "run?": RUN,
    "origin?": ORIGIN,
    "files": {MODEL: SHA256, f"{CODEC}?": SHA256, f"{SCHEDULE}?": SHA256},
}
MEASURED = {"value": (REAL, None), "low?": (REAL, None), "high?": (REAL, None), "n": COUNT}
METRICS = {
    "evaluation?": {"scores": {str: MEASURED}, "protocol": dict, "warnings?": [str]},
    "alarms?": [{"step": COUNT, "kind": str, "message": str}],
}
LOG = {"step": COUNT, "seconds": REAL}


def describe(
    family: Family, codec: Codec, recipe: Recipe, *, trains: bool = False
) -> dict[str, Any]:
    """What `rebuild` needs, as JSON; for a model that `trains` on with all that its training asks
    for."""
    conditions = family.built_for if trains else family.conditions
    return {
        "spec": family.spec.to_json(),
        "conditions": {name: spec.to_json() for name, spec in conditions.items()},
        "recipe": recipe.to_json(),
        "codec": describe_codec(codec),
    }


def rebuild(
    config: Mapping[str, Any],
    codec_tensors: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    where: object = None,
    *,
    empty: bool = False,
) -> tuple[Family, Codec, Recipe]:
    """Inverse of `describe`, with untrained weights; `weights` are those that it is to take. Where
    it is `empty`, parameters take no memory until they are assigned.

    Raises `BundleError` for a description that does not fit itself or the weights.
    """
    check_shape(config, DESCRIPTION, where)
    with reading("the spec", where):
        spec: Any = _spec(config["spec"])
        conditions: Any = {name: _spec(state) for name, state in config["conditions"].items()}
    recipe = Recipe.from_json(config["recipe"])
    with reading("the codec", where):
        codec = rebuild_codec(config["codec"], codec_tensors)
        if codec.spec != spec:
            raise ValueError(f"it encodes to {codec.spec}, the model's items are {spec}")
        for name, wanted in conditions.items():
            if codec.conditions.get(name) != wanted:
                raise ValueError(f"it knows no {name} that is {wanted}")
    times = 2 if recipe.driver else 1  # libraries tie weights that they made before
    with reading("the recipe", where):
        _check_fits(lambda: build_family(recipe, spec, conditions), weights, times)
        with _no_larger_than(weights, times), _without_memory() if empty else nullcontext():
            family = build_family(recipe, spec, conditions)
    return family, codec, recipe


def load_weights(
    family: Family, recipe: Recipe, weights: Mapping[str, Tensor], where: object = None
) -> None:
    """Give a family its `weights`; where its recipe names a wrapper, put that on it before.

    Raises `BundleError` where these do not fit.
    """
    adapter = build_adapter(recipe)
    if adapter is not None:
        with reading("the wrapper", where), _no_larger_than(weights):
            adapter.put_on(family)
    try:
        load_own_state(family, weights)
    except RuntimeError as error:
        what = "recipe" if adapter is None else "wrapper"
        raise BundleError(f"the weights do not fit the {what}: {error}", where=where) from error
    if adapter is not None:
        adapter.merge(family)


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a bundle, of the right shape and no newer version."""
    file = path / "config.json"
    if not file.is_file():
        unfinished = (path / "checkpoint").is_dir()
        raise BundleError(
            "the training of this bundle has not finished" if unfinished else "no bundle here",
            found="a checkpoint, no config.json" if unfinished else "no config.json",
            where=path,
            hint=f"morphogen train --resume --out {in_shell(path)}"
            if unfinished
            else f"ls {path.parent}",
        )
    config: dict[str, Any] = read_json(file)
    if "format" not in config and "model_type" in config:
        raise BundleError(
            "a published model lies here, which is no bundle yet",
            found=f"model_type {config['model_type']}"[:80], expected=FORMAT, where=path,
            hint=f"morphogen import {in_shell(path)} --out {in_shell(f'models/{path.name}')}",
        )  # fmt: skip
    if config.get("format") != FORMAT:
        raise BundleError(
            "config.json is not a bundle's",
            found=str(config.get("format", "no format"))[:80],
            expected=FORMAT,
            where=file,
        )
    check_shape(config, {"version": COUNT}, file)
    if config["version"] > VERSION:
        raise BundleError(
            "the bundle was written by a newer Morphogen",
            found=f"version {config['version']}, of Morphogen {config.get('written_by', '?')}",
            expected=f"version {VERSION} or older: this is Morphogen {morphogen.__version__}",
            hint="pip install --upgrade morphogen",
        )
    if config["version"] < VERSION:
        raise BundleError(
            "the bundle was written by an older Morphogen, in a form that is read no more",
            found=f"version {config['version']}, of Morphogen {config.get('written_by', '?')}",
            expected=f"version {VERSION}",
            where=file,
            hint="train it anew: the recipe in config.json still holds",
        )
    check_shape(config, CONFIG, file)
    if foreign := config["files"].keys() - {MODEL, CODEC, SCHEDULE}:
        raise BundleError("a bundle has no such file", found=min(foreign), where=file)
    return config


def read_unchanged(file: Path, expected: str) -> dict[str, Tensor]:
    """The tensors of a file that is still what it was when the bundle was saved."""
    if not file.is_file():
        raise BundleError("a file of the bundle is missing", found="nothing", where=file)
    if (found := sha256(file)) != expected:
        raise BundleError(
            "a file of the bundle was changed after it was saved",
            found=f"sha256 {found[:16]}...",
            expected=f"sha256 {expected[:16]}...",
            where=file,
            hint="copy the bundle again from where it came, or train it anew",
        )
    return read_tensors(file)


def read_metrics(path: Path) -> dict[str, Any]:
    """metrics.json of a bundle; nothing where there is none."""
    file = path / "metrics.json"
    return read_json(file, METRICS) if file.exists() else {}


def read_log(path: Path) -> list[dict[str, Any]]:
    """log.jsonl of a run, line by line, without lines that were cut short or damaged."""
    return list(read_lines(path, LOG))


def check_priors(priors: Mapping[str, list[float]], conditions: Mapping[str, Spec]) -> None:
    """Raise `BundleError` unless there is one frequency for every value of a label; of a number
    there are quantiles."""
    for name, prior in priors.items():
        spec: Any = conditions.get(name)
        if spec is None or (spec.kind == "real" and spec.num_values == 1):
            continue
        if len(prior) != spec.vocab_size or sum(prior) <= 0 or min(prior) < 0:
            raise BundleError(
                f"the frequencies of {name} are not those of its values",
                found=f"{len(prior)}, in all {sum(prior):g}",
                expected=f"{spec.vocab_size}, in all 1",
            )


def _spec(state: Mapping[str, Any]) -> Spec:
    spec = spec_from_json(state)
    if spec.num_values > MOST_VALUES:
        raise ValueError(f"no item has {spec.num_values:,} values")
    return spec


def _check_fits(build: Callable[[], nn.Module], weights: Mapping[str, Tensor], times: int) -> None:
    """Build it where tensors have shapes and no memory, and compare these with the weights'."""
    with torch.device("meta"), Undrawn(), _no_larger_than(weights, times):
        built = build().state_dict()
    for name, tensor in built.items():
        if name in weights and weights[name].shape != tensor.shape:
            raise BundleError(
                f"the weights do not fit the recipe, which says how large {name} is",
                found=tuple(weights[name].shape),
                expected=tuple(tensor.shape),
            )


@contextmanager
def _without_memory() -> Iterator[None]:
    """Parameters that are registered here have a shape alone."""
    here = threading.get_ident()

    def emptied(module: nn.Module, name: str, parameter: Any) -> Any:
        if parameter is None or threading.get_ident() != here:
            return None
        return nn.Parameter(parameter.to("meta"), parameter.requires_grad)

    hook = nn.modules.module.register_module_parameter_registration_hook(emptied)
    try:
        with Undrawn():
            yield
    finally:
        hook.remove()


@contextmanager
def _no_larger_than(weights: Mapping[str, Tensor], times: int = 1) -> Iterator[None]:
    """Raise `BundleError` as soon as a network that is being built here outgrows its weights, each
    of which is made so many times at most."""
    # A byte may hold two weights of four bits.
    values = sum(t.numel() * (2 if t.dtype == torch.uint8 else 1) for t in weights.values())
    room = {"parameters": times * len(weights), "values": times * values}
    room["tables"] = room["values"] + MOST_TABLES
    here = threading.get_ident()

    def take(kind: str, num: int) -> None:
        room[kind] -= num
        if room[kind] < 0:
            raise BundleError(
                f"the weights do not fit the recipe, whose network has more {kind}",
                found=f"{sum(t.numel() for t in weights.values()):,} values",
            )

    def see_parameter(module: nn.Module, name: str, parameter: Any) -> None:
        if parameter is not None and threading.get_ident() == here:
            take("parameters", 1)
            take("values", parameter.numel())

    def see_buffer(module: nn.Module, name: str, buffer: Any) -> None:
        if buffer is not None and threading.get_ident() == here:
            take("tables", buffer.numel())

    hooks = [
        nn.modules.module.register_module_parameter_registration_hook(see_parameter),
        nn.modules.module.register_module_buffer_registration_hook(see_buffer),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
