"""A folder in a published layout as a bundle: the inverse of `export`, by the same tables.

It takes folders whose vocabulary is as exports have it: the start of a text last, after tokens that
stand for bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from morphogen.core import discover
from morphogen.core.border import REAL, SIZE, check_shape, read_json, reading
from morphogen.core.bundle import Bundle
from morphogen.core.codec_storage import codec_tensors, describe_codec
from morphogen.core.config import MODEL, rebuild
from morphogen.core.errors import BundleError
from morphogen.core.recipe import Recipe, resolve
from morphogen.core.spec import TensorSpec
from morphogen.core.storage import expanded, read_tensors
from morphogen.interop.export import NETWORK
from morphogen.interop.layouts import LAYOUTS, Layout
from morphogen.interop.vocabulary import from_library
from morphogen.modalities.text import Text

SHAPE = {
    "model_type": str,
    "rope_parameters?": ({"rope_type?": "default", "rope_theta": REAL}, None),
    "rope_scaling?": None,
    "morphogen?": {"modality": ("text", "code"), "whole_texts": bool, "across_documents": bool},
}
# How others learn: from windows of a stream, whose texts see those before them.
OTHERS = {"modality": "text", "whole_texts": False, "across_documents": True}
KINDS = {"rotary_base": REAL, "tied": bool, "window": (SIZE, None)}  # the other facts are sizes


def load(folder: Path | str) -> Bundle:
    """The language model in a folder of `transformers`, in float32.

    Raises `BundleError` for a layout that is not known, or a file that does not fit it.
    """
    folder = expanded(folder)
    place = folder / "config.json"
    config: dict[str, Any] = read_json(place, SHAPE)
    config |= {"rope_theta": (config.get("rope_parameters") or config).get("rope_theta")}
    layout = _layout(config, place)
    check_shape(config, {word: KINDS.get(each, SIZE) for each, word in layout.words.items()}, place)
    options = {each: config[word] for each, word in layout.words.items()}
    record = OTHERS | config.get("morphogen", {})
    codec = _codec(folder, record, options.pop("length"))
    start = codec.tokenizer.vocab_size
    wanted = {"vocab_size": start + 1, "bos_token_id": start, "eos_token_id": codec.tokenizer.end}
    if "head_dim" in options:
        wanted["head_dim"] = options["model_dim"] // options["num_heads"]
    _check_says(config, wanted, place)
    for told in ("vocab_size", "head_dim"):
        options.pop(told, None)
    their = {name: tensor.float() for name, tensor in read_tensors(folder / MODEL).items()}
    own = layout.to_ours(their, options["num_layers"], options["tied"])
    weights = {NETWORK + name: tensor for name, tensor in own.items()}
    if codec.spec.is_ragged:  # no word of theirs says how long texts were
        weights["usual_values"] = torch.tensor(float(codec.spec.num_values))
    had = ("position", "norm", "mlp", "qk_norm", "ngrams")
    options |= {name: layout.has[name] for name in had}
    options["across_documents"] = record["across_documents"]
    with reading("config.json", place):
        recipe = Recipe(
            {"name": record["modality"]}, {"name": "autoregressive"},
            {"name": "token_transformer", **options},
        )  # fmt: skip
        description = {
            "spec": codec.spec.to_json(),
            "conditions": {},
            "recipe": resolve(recipe, codec.spec).to_json(),
            "codec": describe_codec(codec),
        }
        parts = rebuild(description, codec_tensors(codec), weights, folder)
        parts[0].load_state_dict(weights)
    parts[0].eval()
    return Bundle(*parts)


def _layout(config: Mapping[str, Any], place: Path) -> Layout:
    """The table of an architecture, which says what the config does."""
    kinds = [layout for layout in LAYOUTS if layout.model_type == config["model_type"]]
    if not kinds:
        known = sorted({layout.model_type for layout in LAYOUTS})
        raise BundleError(
            "this architecture has no table yet",
            found=config["model_type"], expected=", ".join(known), where=place,
        )  # fmt: skip
    near = min(kinds, key=lambda layout: len(_otherwise(config, layout.says)))
    _check_says(config, near.says, place)
    return near


def _check_says(config: Mapping[str, Any], wanted: Mapping[str, Any], place: Path) -> None:
    """Raise `BundleError` where the config says something else."""
    for name, value in _otherwise(config, wanted).items():
        raise BundleError(
            f"{name} is one that a bundle has no place for",
            found=config.get(name, "nothing"), expected=value, where=place,
        )  # fmt: skip


def _otherwise(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wanted.items() if config.get(name) != value}


def _codec(folder: Path, record: Mapping[str, Any], length: int) -> Text:
    """The codec of the texts, with the tokenizer of the folder."""
    codec: Text = discover.find("modality", record["modality"])()
    codec.tokenizer = from_library(folder / "tokenizer.json")
    end, vocab_size = codec.tokenizer.end, codec.tokenizer.vocab_size
    ending = {"end": end} if record["whole_texts"] else {"boundary": end}
    codec.spec = TensorSpec.tokens(length, vocab_size, **ending)
    codec.windows = None if record["whole_texts"] else length
    return codec
