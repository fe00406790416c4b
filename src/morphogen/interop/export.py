"""What is trained here, in the form in which others run language models: a folder as `transformers`
reads it, and with it vLLM, llama.cpp's converter, and whatever else takes Llama's layout.

    config.json  model.safetensors  generation_config.json  tokenizer.json  tokenizer_config.json

The same tokens for the same text, the same probabilities of what comes next. A bundle that has a
part for which the layout has no place is refused, and told which.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from morphogen.backbones.token_transformer import TokenTransformer
from morphogen.core import discover
from morphogen.core.amounts import size
from morphogen.core.bundle import Bundle
from morphogen.core.config import MODEL
from morphogen.core.errors import BundleError, RecipeError, RefusedPair
from morphogen.core.recipe import resolve
from morphogen.core.storage import below, expanded, partial_of, write_tensors, write_text
from morphogen.families.autoregressive import Autoregressive
from morphogen.interop.layout import Layout
from morphogen.interop.layouts import LAYOUTS
from morphogen.interop.vocabulary import END, START, to_library
from morphogen.modalities.text import Text
from morphogen.modalities.text.tokenizers import Tokenizer

FORMATS = ("transformers",)
NETWORK = "network."  # where the family keeps it


@dataclass
class Exported:
    """A folder that others read, and what to know of it."""

    path: str
    layout: str
    files: dict[str, int] = field(default_factory=dict)  # name -> bytes
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dict(vars(self))

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{self.path}, in the layout of {self.layout}:"]
        lines += [f"  {name:<24}{size(num)}" for name, num in self.files.items()]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def export(
    bundle: Bundle | Path | str,
    to: Path | str,
    *,
    format: str = "transformers",
    trust: bool = False,
) -> Exported:
    """Write a language model into the folder `to`, which must be empty or not there.

    Raises `RefusedPair` for a bundle that is no language model, or has what no layout has a place
    for, and `BundleError` where the folder holds something.
    """
    if format not in FORMATS:
        raise RecipeError("there is no such format", found=format, expected=", ".join(FORMATS))
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, trust=trust)
    family, codec = _language_model(bundle)
    facts = facts_of(bundle)
    layout = fitting(facts)
    own = below(NETWORK, {name: t.float() for name, t in family.state_dict().items()})
    folder = expanded(to)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BundleError("the folder is not empty", where=folder, hint="--to another folder")
    tokenizer, own_start = codec.tokenizer, family.start == family.vocab_size
    marks = {"bos_token_id": family.start, "eos_token_id": tokenizer.end}
    marks["pad_token_id"] = tokenizer.end
    texts = {
        "config.json": layout.config(facts)
        | {**marks, "dtype": "float32", "morphogen": _record(bundle, facts)},
        "generation_config.json": marks | _drawing(family.start if own_start else None),
        "tokenizer.json": to_library(tokenizer),
        "tokenizer_config.json": _tokenizer_config(tokenizer, family.start, facts["length"]),
    }
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)
    write_tensors(partial / MODEL, layout.to_theirs(own, facts), {"format": "pt"})
    for name, value in texts.items():
        write_text(partial / name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    if folder.exists():
        folder.rmdir()
    partial.rename(folder)
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    return Exported(str(folder), layout.model_type, files, _notes(facts, codec))


def facts_of(bundle: Bundle) -> dict[str, Any]:
    """What a layout has to have a place for: the options of the network, every default filled in,
    and its sizes."""
    network: Any = bundle.family.network
    facts = dict(resolve(bundle.recipe, bundle.family.spec).backbone)
    first = network.layers[0]
    facts |= {
        "ngrams": 1 if network.ngrams is None else network.ngrams.most,
        "num_heads": first.self_attn.q_proj.out_features // network.head_dim,
        "num_kv_heads": network.num_kv_heads,
        "head_dim": network.head_dim,
        "query_dim": network.head_dim,  # whose root scores are divided by
        "hidden_dim": first.mlp.up_proj.out_features,
        "tied": network.tied,
        "vocab_size": network.in_spec.vocab_size,
        "length": network.in_spec.shape[0],
    }
    whole = facts["num_heads"] * facts["head_dim"] == facts["model_dim"]
    return facts | {"grouped": facts["num_kv_heads"] < facts["num_heads"], "uneven": not whole}


def fitting(facts: Mapping[str, Any]) -> Layout:
    """The layout that has a place for all of this. Raises `RefusedPair` where none has."""
    near = min(LAYOUTS, key=lambda layout: len(layout.misfits(facts)))
    if misfits := near.misfits(facts):
        raise RefusedPair(
            "no layout has a place for this network",
            found=", ".join(f"backbone.{name} = {facts[name]}" for name in misfits),
            expected=", ".join(f"{name} = {value}" for name, value in misfits.items())
            + f", as {near.model_type} has it, the nearest",
            hint=" ".join(f"--set backbone.{name}={value}" for name, value in misfits.items()),
        )
    return near


def _language_model(bundle: Bundle) -> tuple[Autoregressive, Text]:
    """The parts of one. Raises `RefusedPair` for any other bundle."""
    family, codec = bundle.family, bundle.codec
    network = getattr(family, "network", None)
    reason = None
    if not isinstance(codec, Text):
        reason = f"its items are no texts, but those of {discover.name_of(type(codec))}"
    elif not isinstance(family, Autoregressive):
        reason = f"the family {discover.name_of(type(family))} does not go on with a text"
    elif not isinstance(network, TokenTransformer):
        reason = f"its network is a {discover.name_of(type(network))}, not a token_transformer"
    elif family.conditions:
        reason = f"it learned with conditions ({', '.join(family.conditions)})"
    if reason is not None:
        raise RefusedPair(
            f"this bundle has no form that others read: {reason}",
            expected="a language model without conditions",
            hint="morphogen train texts/ --family autoregressive --set train.unconditional=yes",
        )
    assert isinstance(family, Autoregressive)
    assert isinstance(codec, Text)
    return family, codec


def _record(bundle: Bundle, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What their config has no word for, and `load` takes up: how texts are items."""
    return {
        "modality": discover.name_of(type(bundle.codec)),
        "whole_texts": bundle.codec.spec.end is not None,
        "across_documents": facts["across_documents"],
    }


def _drawing(never: int | None) -> dict[str, Any]:
    """generation_config.json: draws from the model as it is, never a start of its own."""
    drawn = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    return drawn if never is None else {**drawn, "suppress_tokens": [never]}


def _tokenizer_config(tokenizer: Tokenizer, start: int, length: int) -> dict[str, Any]:
    """tokenizer_config.json. Text that looks like a mark stays text."""
    names = {number: name for name, number in tokenizer.marks.items()}
    begins, ends = names.get(start, START), names.get(tokenizer.end, END)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": begins,
        "eos_token": ends,
        "pad_token": ends,
        "add_bos_token": not names,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": not names,
        "model_max_length": length,
    }


def _notes(facts: Mapping[str, Any], codec: Text) -> list[str]:
    """What is otherwise there than here."""
    notes = [
        f"it learned from {facts['length']:,} tokens at once, the start among them: more are "
        "beyond what it knows",
        "bytes that are no UTF-8 are shown as U+FFFD there",
    ]
    if not codec.tokenizer.marks:
        notes.append(f"every text begins with {START}, which the tokenizer adds")
    if codec.spec.boundary is not None and not facts["across_documents"]:
        notes.append("after an end it looks at the text before it there, and does not here")
    return notes
