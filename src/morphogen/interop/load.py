"""A published model as a bundle: the inverse of `export`, by the same tables.

config.json  model.safetensors  tokenizer.json  tokenizer_config.json

load(folder)                                     a folder of `transformers`
build(layout, facts, weights, tokenizer, ..)     what any other file says, by a table's names
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.border import COUNT, REAL, SIZE, check_shape, read_json, reading
from morphogen.core.bundle import Bundle
from morphogen.core.codec_storage import codec_tensors, describe_codec
from morphogen.core.config import rebuild
from morphogen.core.errors import BundleError
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.core.spec import TensorSpec
from morphogen.core.storage import expanded
from morphogen.core.undrawn import Undrawn
from morphogen.interop.driven import model_types
from morphogen.interop.exported import NETWORK
from morphogen.interop.layout import OPTIONS, Layout, nearest
from morphogen.interop.layouts import LAYOUTS
from morphogen.interop.vocabulary import from_library, from_others, is_own
from morphogen.interop.weights import read_weights
from morphogen.modalities.text import Text
from morphogen.modalities.text.tokenizers import Tokenizer

LONGEST = 4096  # tokens of an item, of those that a network with rotary positions can have
SHAPE = {
    "model_type": str,
    "rope_parameters?": (dict, None),
    "rope_scaling?": (dict, None),
    "layer_types?": ([str], None),
    "bos_token_id?": (COUNT, None),
    "eos_token_id?": (COUNT, [COUNT], None),
    "morphogen?": {
        "modality": ("text", "code"), "whole_texts": bool, "across_documents": bool,
        "pooling?": ("mean", "first"), "normalised?": bool,
    },
    "architectures?": ([str], None),
}  # fmt: skip
RECORD = ("modality", "whole_texts", "across_documents", "pooling", "normalised")
SIZES = ("model_dim", "num_layers", "num_heads", "length", "vocab_size")
OPEN_SIZES = ("num_kv_heads", "head_dim", "hidden_dim", "window")
REALS = ("eps", "rotary_base")
# tokenizer_config.json calls them by name, itself or in a record.
NAMED = ({"content": str}, str, None)
MARKS = {f"{name}_token?": NAMED for name in ("bos", "eos", "cls", "sep", "mask")}


@dataclass(frozen=True)
class Use:
    """How a network is used, of which its weights say nothing."""

    start: int | None = None  # the token before a text; None: one of its own, the last
    mask: int | None = None  # of an encoder: the token that hides others
    pooling: str = "mean"  # of an encoder: what its features are, see `families.masked`
    normalised: bool = False
    modality: str = "text"
    whole_texts: bool = False  # else windows of a stream, whose texts see those before them
    across_documents: bool = True


def load(folder: Path | str, *, length: int | None = None) -> Bundle:
    """The model in a folder of `transformers`, in float32, for items of up to `length` tokens:
    unless told, as many as it can have, but no more than 4,096.

    Raises `BundleError` for a layout that is not known, or a file that does not fit it.
    """
    folder = expanded(folder)
    place = folder / "config.json"
    config = _flat(read_json(place, SHAPE))
    layout = _layout(config, place)
    with reading("config.json", place):
        facts = layout.facts(config)
    _check_facts(layout, facts, place)
    if length is not None or facts.get("position") != "learned":
        facts["length"] = min(facts["length"], length or LONGEST)
    told = config.get("morphogen", {})
    record = {name: told[name] for name in RECORD if name in told}
    file = folder / "tokenizer.json"
    if is_own(file):
        tokenizer, start = from_library(file), None
        wanted = {"vocab_size": tokenizer.vocab_size + 1, "bos_token_id": tokenizer.vocab_size}
        _check_says(config, {**wanted, "eos_token_id": tokenizer.end}, place)
    else:
        marks = _marks(folder, config)
        encodes = layout.family == "masked"
        tokenizer = from_others(file, marks["sep" if encodes else "eos"], facts["vocab_size"])
        start = marks["cls"] if encodes else marks.get("bos", marks["eos"])
        if encodes:
            whole = {"whole_texts": True, "across_documents": False, "mask": marks.get("mask")}
            record = whole | _pooled(folder) | record
    use = Use(start, **record)
    return build(layout, facts, read_weights(folder), tokenizer, use, where=folder)


def build(
    layout: Layout | str,
    facts: Mapping[str, Any],
    their: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    use: Use,
    *,
    where: object = None,
) -> Bundle:
    """A bundle of weights as a layout names them.

    `facts` are what `Layout.facts` gives: options of the network that the layout leaves open, and
    `length` and `vocab_size`. Raises `BundleError` for weights that are not those.
    """
    if isinstance(layout, str):
        layout = nearest(layout, LAYOUTS, where)[0]
    facts = {"tied": False, **{n: v for n, v in layout.has.items() if n in OPTIONS}, **facts}
    family: dict[str, Any] = {"name": layout.family, "start": use.start}
    if layout.family == "masked":
        family |= {"mask": use.mask, "pooling": use.pooling, "normalised": use.normalised}
        family |= {"tells": facts["masked_head"]}
    before = int(layout.family == "masked")  # a place is the start's
    codec = _codec(tokenizer, use, facts["length"] - before)
    options = {name: value for name, value in facts.items() if name in OPTIONS}
    options["across_documents"] = use.across_documents
    with reading("config.json", where):
        recipe = Recipe(
            {"name": use.modality}, family,
            {"name": "token_transformer", "ngrams": 1, **options},
        )  # fmt: skip
        recipe = resolve(recipe, codec.spec)
        if facts["num_layers"] > len(their):
            raise BundleError(
                "there are more layers than tensors",
                found=f"{len(their)} tensors", expected=f"{facts['num_layers']} layers",
            )  # fmt: skip
        with torch.device("meta"), Undrawn():
            network: Any = build_family(recipe, codec.spec, {}).network
        their = layout.checked(their, network.state_dict(), facts, where)
        own = layout.to_ours(their, facts)
        weights = {NETWORK + name: tensor.contiguous() for name, tensor in own.items()}
        description = {
            "spec": codec.spec.to_json(),
            "conditions": {},
            "recipe": recipe.to_json(),
            "codec": describe_codec(codec),
        }
        parts = rebuild(description, codec_tensors(codec), weights, where, empty=True)
        # No copy: as large as a model is, it is there once. No word of theirs: how long texts were.
        parts[0].load_state_dict(weights, strict=False, assign=True)
    parts[0].eval()
    return Bundle(*parts)


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json whose words of rotary positions are those of before 2025: one each."""
    found, told = dict(config), config.get("rope_parameters")
    if told is None:
        return found
    far, near = told.get("full_attention", told), told.get("sliding_attention", {})
    for names, base in (
        (("rope_theta", "global_rope_theta"), far.get("rope_theta")),
        (("rope_local_base_freq", "local_rope_theta"), near.get("rope_theta")),
    ):
        found |= dict.fromkeys(names, base) if base is not None else {}
    return found | {"rope_scaling": far}


def _layout(config: Mapping[str, Any], place: Path) -> Layout:
    """The table of an architecture, which says what the config does."""
    kinds = nearest(config["model_type"], LAYOUTS, place, model_types())
    named = config.get("architectures") or ()
    near = min(
        kinds, key=lambda each: (len(each.otherwise(config)), each.architecture not in named)
    )
    _check_says(config, near.says, place)
    return near


def _check_says(config: Mapping[str, Any], wanted: Mapping[str, Any], place: Path) -> None:
    """Raise `BundleError` where the config says something else."""
    for name, value in wanted.items():
        if config.get(name, value) != value:
            raise BundleError(
                f"{name} is one that a bundle has no place for",
                found=config[name], expected=value, where=place,
            )  # fmt: skip


def _check_facts(layout: Layout, facts: Mapping[str, Any], place: Path) -> None:
    """Raise `BundleError` for a fact that is no such number."""
    kinds: dict[str, Any] = dict.fromkeys(SIZES, SIZE) | dict.fromkeys(OPEN_SIZES, (SIZE, None))
    kinds |= dict.fromkeys(REALS, REAL) | {"tied": bool}
    words = {layout.words[name].name: name for name in kinds if name in layout.words}
    told = facts.get("query_dim")
    if told not in (None, facts.get("head_dim")):
        raise BundleError(
            "scores of attention are divided by another number than here",
            found=told, expected=facts["head_dim"], where=place,
        )  # fmt: skip
    check_shape(
        {word: facts[name] for word, name in words.items()},
        {word: kinds[name] for word, name in words.items()},
        place,
    )


def _marks(folder: Path, config: Mapping[str, Any]) -> dict[str, int]:
    """The numbers of the tokens that begin and end a text, and what else is named."""
    found: dict[str, int] = {}
    for mark in ("bos", "eos"):
        number = config.get(f"{mark}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        if isinstance(number, int):
            found[mark] = number
    told, place = folder / "tokenizer_config.json", folder / "tokenizer.json"
    if told.is_file():
        whole = read_json(place, {"model": {"vocab": (dict, list)}})
        numbers = dict(whole["model"]["vocab"]) if isinstance(whole["model"]["vocab"], dict) else {}
        numbers |= {each["content"]: each["id"] for each in whole.get("added_tokens") or ()}
        for key, name in read_json(told, MARKS).items():
            mark, _, is_token = key.partition("_")
            name = name["content"] if isinstance(name, dict) else name
            if is_token == "token" and isinstance(name, str) and name in numbers:
                found[mark] = numbers[name]
    if not {"eos", "sep"} & found.keys():
        raise BundleError("nothing says which token ends a text", expected="eos_token", where=told)
    return found


def _pooled(folder: Path) -> dict[str, Any]:
    """What sentence-transformers makes of the states of an encoder, where its files are there."""
    pooling, modules = folder / "1_Pooling" / "config.json", folder / "modules.json"
    found: dict[str, Any] = {}
    if pooling.is_file():
        told = read_json(pooling)
        if told.get("pooling_mode_mean_tokens") is told.get("pooling_mode_cls_token"):
            raise BundleError("states are pooled in a way that is not known here", where=pooling)
        found["pooling"] = "first" if told["pooling_mode_cls_token"] else "mean"
    if modules.is_file():
        kinds = [each["type"] for each in read_json(modules, [{"type": str}])]
        found["normalised"] = any(kind.endswith("Normalize") for kind in kinds)
    return found


def _codec(tokenizer: Tokenizer, use: Use, length: int) -> Text:
    """The codec of the texts."""
    codec: Text = discover.find("modality", use.modality)()
    codec.tokenizer, end = tokenizer, tokenizer.end
    ending = {"end": end} if use.whole_texts else {"boundary": end}
    codec.spec = TensorSpec.tokens(length, tokenizer.vocab_size, **ending)
    codec.windows = None if use.whole_texts else length
    return codec
