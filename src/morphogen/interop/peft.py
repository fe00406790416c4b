"""A low-rank adapter, or a soft prompt, as the library `peft` opens it, and so do vLLM and others.

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
from morphogen.wrappers.prompt import Prompt

WEIGHTS = "adapter_model.safetensors"


def export_peft(bundle: Bundle, folder: Path) -> Exported:
    """Write the adapter of a language model into a folder that is empty or not there.

    Raises `RefusedPair` for what is neither a low-rank adapter nor a soft prompt, or has no such
    layers there.
    """
    adapter = bundle.family.adapter
    if not isinstance(adapter, (LoRA, Prompt)):
        raise RefusedPair(
            "only a low-rank adapter or a soft prompt has this form",
            found="a whole model" if adapter is None else type(adapter).__name__,
            hint="leave --format out, which writes the whole model",
        )
    check_empty(folder)
    language_model(bundle)
    layout = fitting(facts_of(bundle))
    found = _changes if isinstance(adapter, LoRA) else _vectors
    tensors, config = found(bundle, layout.prefix)
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)
    write_tensors(partial / WEIGHTS, tensors, {"format": "pt"})
    base = Path(bundle.recipe.start.get("from", "")).name
    config |= {"base_model_name_or_path": base, "task_type": "CAUSAL_LM", "inference_mode": True}
    write_text(partial / "adapter_config.json", json.dumps(config, indent=2) + "\n")
    if folder.exists():
        folder.rmdir()
    partial.rename(folder)
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    note = "it goes on the base, exported: morphogen export BASE --to FOLDER"
    return Exported(str(folder), f"peft, on {layout.model_type}", files, [note])


def _vectors(bundle: Bundle, prefix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What stands before a text, and what is said of it."""
    network: Any = bundle.family.network
    if network.scale != 1:
        raise RefusedPair("embeddings are scaled there, and so would be what stands before them",
                          found=f"times {network.scale:g}", expected="1")  # fmt: skip
    num, dim = network.prompt.shape
    config = {
        "peft_type": "PROMPT_TUNING", "prompt_tuning_init": "RANDOM", "num_virtual_tokens": num,
        "token_dim": dim, "num_transformer_submodules": 1, "num_layers": network.num_layers,
        "num_attention_heads": facts_of(bundle)["num_heads"],
    }  # fmt: skip
    return {"prompt_embeddings": network.prompt.detach()}, config


def _changes(bundle: Bundle, prefix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The changes of layers, and what is said of them."""
    adapter: Any = bundle.family.adapter
    changes = _by_their_names(bundle, prefix)
    tensors: dict[str, Tensor] = {}
    for name, own in changes.items():
        place = f"base_model.model.{name}."
        tensors[f"{place}lora_A.weight"] = own.down.detach()
        tensors[f"{place}lora_B.weight"] = own.up.detach()
        if own.magnitude is not None:
            tensors[f"{place}lora_magnitude_vector"] = own.magnitude.detach()
    return tensors, _config(adapter, changes)


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


def _config(adapter: LoRA, changes: dict[str, LowRank]) -> dict[str, Any]:
    narrow = {name: own.rank for name, own in changes.items() if own.rank != adapter.rank}
    return {
        "peft_type": "LORA",
        "r": adapter.rank,
        "rank_pattern": narrow,
        "lora_alpha": adapter.alpha if math.modf(adapter.alpha)[0] else int(adapter.alpha),
        "lora_dropout": adapter.dropout_prob,
        "use_dora": adapter.dora,
        "target_modules": sorted(changes),
        "bias": "none",
        "fan_in_fan_out": False,
    }
