"""A low-rank adapter as the library `peft` opens it, and with it vLLM and others.

    adapter_config.json  adapter_model.safetensors

It goes on the base in the form of transformers (`morphogen export models/base --to base-llama`).
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.errors import RefusedPair
from morphogen.core.storage import below, partial_of, write_tensors, write_text
from morphogen.interop.exported import (
    NETWORK,
    Exported,
    check_empty,
    facts_of,
    fitting,
    language_model,
)
from morphogen.wrappers.lora import LoRA, LowRank, adapted_layers

WEIGHTS = "adapter_model.safetensors"


def export_peft(bundle: Bundle, folder: Path) -> Exported:
    """Write the adapter of a language model into a folder that is empty or not there.

    Raises `RefusedPair` for what is no low-rank adapter, or has no such layers there.
    """
    adapter = bundle.family.adapter
    if not isinstance(adapter, LoRA):
        raise RefusedPair(
            "only a low-rank adapter has this form",
            found="a whole model" if adapter is None else type(adapter).__name__,
            hint="leave --format out, which writes the whole model",
        )
    check_empty(folder)
    language_model(bundle)
    layout = fitting(facts_of(bundle))
    changes = _by_their_names(bundle, layout.prefix)
    tensors: dict[str, Tensor] = {}
    for name, own in changes.items():
        place = f"base_model.model.{name}."
        tensors[f"{place}lora_A.weight"] = own.down.detach()
        tensors[f"{place}lora_B.weight"] = own.up.detach()
        if own.magnitude is not None:
            tensors[f"{place}lora_magnitude_vector"] = own.magnitude.detach()
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)
    write_tensors(partial / WEIGHTS, tensors, {"format": "pt"})
    config = _config(bundle, adapter, changes)
    write_text(partial / "adapter_config.json", json.dumps(config, indent=2) + "\n")
    if folder.exists():
        folder.rmdir()
    partial.rename(folder)
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    note = "it goes on the base, exported: morphogen export BASE --to FOLDER"
    return Exported(str(folder), f"peft, on {layout.model_type}", files, [note])


def _by_their_names(bundle: Bundle, prefix: str) -> dict[str, LowRank]:
    """Each layer's change, as the layer is called there. Raises `RefusedPair` for layers that are
    joined there, or turned, as GPT-2's are."""
    network: Any = bundle.family.network
    facts = facts_of(bundle)
    own = below(NETWORK, bundle.family.state_dict())
    theirs = fitting(facts).to_theirs({k: v for k, v in own.items() if ".lora." not in k}, facts)
    names = {id(layer): name for name, layer in network.named_modules()}
    found = {}
    for layer, change in adapted_layers(bundle.family):
        name = names.get(id(layer), "")
        called = name if name == "lm_head" else f"{prefix}{name}"
        there = theirs.get(f"{called}.weight")
        if not name or there is None or there.shape != layer.weight.shape:
            raise RefusedPair(
                "the base has no such layer in the form that others read", found=name or "a layer"
            )
        found[called] = change
    return found


def _config(bundle: Bundle, adapter: LoRA, changes: dict[str, LowRank]) -> dict[str, Any]:
    narrow = {name: own.rank for name, own in changes.items() if own.rank != adapter.rank}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": Path(bundle.recipe.start.get("from", "")).name,
        "r": adapter.rank,
        "rank_pattern": narrow,
        "lora_alpha": adapter.alpha if math.modf(adapter.alpha)[0] else int(adapter.alpha),
        "lora_dropout": adapter.dropout_prob,
        "use_dora": adapter.dora,
        "target_modules": sorted(changes),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
