"""What is trained here, in the form in which others run language models: a folder as `transformers`
reads it, and with it vLLM, llama.cpp's converter, and whatever else takes Llama's layout.

    config.json  model.safetensors  generation_config.json  tokenizer.json  tokenizer_config.json

The same tokens for the same text, the same probabilities of what comes next. A bundle that has a
part for which the layout has no place is refused, and told which.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.errors import RecipeError
from morphogen.core.folder import MODEL
from morphogen.core.storage import below, expanded, partial_of, write_tensors, write_text
from morphogen.families.autoregressive import Autoregressive
from morphogen.families.masked import Masked
from morphogen.interop.export_gguf import export_gguf
from morphogen.interop.export_int8 import export_int4, export_int8
from morphogen.interop.export_onnx import export_onnx
from morphogen.interop.exported import (
    NETWORK,
    Exported,
    check_empty,
    facts_of,
    fitting,
    language_model,
    template_of,
)
from morphogen.interop.layouts import LAYOUTS
from morphogen.interop.peft import export_peft
from morphogen.interop.vocabulary import END, START, to_library
from morphogen.modalities.text import Text
from morphogen.modalities.text.tokenizers import Tokenizer


def export(
    bundle: Bundle | Path | str,
    to: Path | str,
    *,
    format: str | None = None,
    type: str = "F32",
    trust: bool = False,
) -> Exported:
    """Write a language model into the folder `to`, which must be empty or not there; or where that
    ends with .gguf, or the format is gguf, into a file, with numbers of a `type`: F32, F16, Q8_0.

    Raises `RefusedPair` for a bundle that is no language model, or has what no layout has a place
    for, and `BundleError` where there is something already, or another program makes something else
    of what was written.
    """
    format = format or ("gguf" if str(to).endswith(".gguf") else "transformers")
    if format not in FORMATS:
        raise RecipeError("there is no such format", found=format, expected=", ".join(FORMATS))
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, trust=trust)
    if format not in AS_ADAPTED:
        bundle = bundle.whole()
    given = {"type": type} if format == "gguf" else {}
    return FORMATS[format](bundle, expanded(to), **given)


def _plain_bundle(bundle: Bundle, folder: Path) -> Exported:
    """A bundle that needs no base."""
    check_empty(folder)
    replace(bundle).save(folder)
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    return Exported(str(folder), "a bundle", files)


def _export_folder(bundle: Bundle, folder: Path) -> Exported:
    """A folder of transformers."""
    family, codec = language_model(bundle, encoders=True)
    facts, kind = facts_of(bundle), discover.name_of(type(family))
    layout = fitting(facts, [each for each in LAYOUTS if each.family == kind])
    own = below(NETWORK, {name: t.float() for name, t in family.state_dict().items()})
    check_empty(folder)
    tokenizer, start = codec.tokenizer, family.start
    marks = {"bos_token_id": start, "eos_token_id": tokenizer.end, "pad_token_id": tokenizer.end}
    texts = {
        "config.json": layout.config(facts)
        | {**marks, "dtype": "float32", "morphogen": _record(bundle, facts)},
        "tokenizer.json": to_library(tokenizer),
        "tokenizer_config.json": _tokenizer_config(family, tokenizer, facts["length"]),
    }
    if template := template_of(bundle, texts["tokenizer_config.json"]["eos_token"]):
        texts["tokenizer_config.json"]["chat_template"] = template
    if isinstance(family, Autoregressive):
        never = start if start == family.vocab_size else None
        texts["generation_config.json"] = marks | _drawing(never)
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


def _record(bundle: Bundle, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What their config has no word for, and `load` takes up: how texts are items."""
    family: Any = bundle.family
    names = ("pooling", "normalised") if isinstance(family, Masked) else ()
    return {
        "modality": discover.name_of(type(bundle.codec)),
        "whole_texts": bundle.codec.spec.end is not None,
        "across_documents": facts["across_documents"],
        **{name: getattr(family, name) for name in names},
    }


def _drawing(never: int | None) -> dict[str, Any]:
    """generation_config.json: draws from the model as it is, never a start of its own."""
    drawn = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    return drawn if never is None else {**drawn, "suppress_tokens": [never]}


def _tokenizer_config(family: Any, tokenizer: Tokenizer, length: int) -> dict[str, Any]:
    """tokenizer_config.json. Text that looks like a mark stays text."""
    names = {number: name for name, number in tokenizer.marks.items()}
    begins, ends = names.get(family.start, START), names.get(tokenizer.end, END)
    of_encoders = {}
    if isinstance(family, Masked):
        of_encoders = {"cls_token": begins, "sep_token": ends, "mask_token": names.get(family.mask)}
    return {
        **of_encoders,
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


# What `--to` and `format` name -> what writes it: (bundle, place) -> what was written.
FORMATS: dict[str, Callable[..., Exported]] = {
    "transformers": _export_folder,
    "gguf": export_gguf,
    "bundle": _plain_bundle,
    "peft": export_peft,
    "int8": export_int8,
    "int4": export_int4,
    "onnx": export_onnx,
}
AS_ADAPTED = {"peft", "int8", "int4"}  # to them a base and its adapter are two; else they are one
