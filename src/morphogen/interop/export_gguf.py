"""A language model as a GGUF file, which llama.cpp and what is built on it run: tried there before
it is handed out.

    F32    the numbers as they are           F16    half of the size
    Q8_0   blocks of 32 in eight bits each, a quarter

Twenty beginnings of the model's own go on in both, greedily. The record (`NAME.gguf.json`) holds
each, the first token that differs and how near the two were; where the likelihoods differ by more
than the type of the numbers explains, the export stops.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.errors import BundleError, RecipeError, RefusedPair
from morphogen.core.storage import below, expanded, write_text
from morphogen.interop import llama_cpp
from morphogen.interop.exported import (
    NETWORK,
    Exported,
    facts_of,
    fitting,
    language_model,
    template_of,
)
from morphogen.interop.gguf import KINDS, write_gguf
from morphogen.interop.gguf_tokens import OWN, vocabulary_facts
from morphogen.interop.replay import Replay, replay
from morphogen.interop.vocabulary import to_library
from morphogen.modalities.text.tokenizers import BPE, Library, Tokenizer

TYPES = ("F32", "F16", "Q8_0")


def export_gguf(bundle: Bundle, to: Path | str, *, type: str = "F32") -> Exported:
    """Write the file `to`, which must not be there yet, and its record beside it.

    Raises `RefusedPair` for a bundle that is no language model, or has what llama.cpp has no place
    for, and `BundleError` where llama.cpp makes something else of it.
    """
    type = type.upper()
    if type not in TYPES:
        raise RecipeError("tensors are not written so", found=type, expected=", ".join(TYPES))
    path = expanded(to)
    if path.exists():
        raise BundleError("there is a file already", where=path, hint="--to another one")
    family, codec = language_model(bundle)
    check_tokenizer(codec.tokenizer)
    facts = facts_of(bundle)
    layout = fitting(facts, llama_cpp.LAYOUTS)
    own = below(NETWORK, {name: t.float() for name, t in family.state_dict().items()})
    told = llama_cpp.facts_for(layout, facts)
    told |= vocabulary_facts(to_library(codec.tokenizer), facts["vocab_size"])
    told |= _said(bundle, path, told[OWN + "tokens"][codec.tokenizer.end]) | {
        OWN + "bos_token_id": family.start, OWN + "eos_token_id": codec.tokenizer.end,
        OWN + "padding_token_id": codec.tokenizer.end, OWN + "add_bos_token": begins(bundle),
    }  # fmt: skip
    partial = path.with_name(f".{path.name}.partial")
    try:
        write_gguf(partial, told, layout.to_theirs(own, facts), lambda n, t: _type_of(n, t, type))
        found = replay(bundle, partial, begins=begins(bundle))
        if found is not None and not found.agrees(type):
            raise BundleError(
                "llama.cpp makes something else of this model, so it is not handed out",
                found=found.text(), expected=found.expected(type), where=path,
                hint="--type f32 shows whether the numbers are to blame",
            )  # fmt: skip
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    record = {"type": type, "replay": None if found is None else found.to_json()}
    write_text(path.with_name(path.name + ".json"), json.dumps(record, indent=2) + "\n")
    files = {each.name: each.stat().st_size for each in (path, path.with_name(path.name + ".json"))}
    return Exported(str(path), f"{layout.model_type}, in {type}", files, [_note(found)])


def begins(bundle: Bundle) -> bool:
    """Whether every text begins with the start: not where a template that came with the model
    writes it."""
    return hasattr(bundle.codec, "template") or "chat_template" not in bundle.origin


def check_tokenizer(tokenizer: Tokenizer) -> None:
    """Raise `RefusedPair` for one that GGUF has no kind for."""
    if not isinstance(tokenizer, (BPE, Library)):
        raise RefusedPair(
            f"GGUF has no kind of vocabulary for the tokenizer {tokenizer.kind}",
            found=f"tokens of single {'bytes' if tokenizer.kind == 'byte' else 'characters'}",
            expected="byte-level BPE, or what came with a published model",
            hint="train with --set modality.tokenizer=bpe; or export a folder of transformers, "
            "which has a place for it: --to FOLDER",
        )


def _type_of(name: str, tensor: Tensor, type: str) -> str:
    """The type of a tensor: gains, offsets and places stay as they are, and rows that make no whole
    blocks."""
    _, per_block, _ = KINDS[type]
    is_matrix = tensor.dim() > 1 and not name.startswith("position")
    return type if is_matrix and tensor.shape[-1] % per_block == 0 else "F32"


def _said(bundle: Bundle, path: Path, end: str) -> dict[str, Any]:
    """What is known of the model, and its template."""
    known = {
        "general.name": bundle.origin.get("name", path.stem),
        "general.license": bundle.origin.get("licence"),
        "tokenizer.chat_template": template_of(bundle, end),
        "general.quantization_version": 2,
    }
    return {name: value for name, value in known.items() if value}


def _note(found: Replay | None) -> str:
    if found is None:
        return "not replayed in llama.cpp: pip install 'morphogen[llamacpp]' for that"
    return f"replayed in llama.cpp: {found.text()}"
