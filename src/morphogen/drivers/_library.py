"""`transformers` and `diffusers`, as drivers use them: quiet, offline, from safetensors alone.

What a folder's JSON says is data: entries that would fetch kernels, quantisers or code are left
out before a library sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from morphogen.core.border import read_json
from morphogen.core.driver import check_loaded, contents_of
from morphogen.core.errors import BundleError
from morphogen.core.extras import extra

# Of transformers, by what they say in their names.
TOKENS = (
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "added_tokens.json",
    "special_tokens_map.json", "normalizer.json",
)  # fmt: skip
NEVER = {
    "auto_map", "quantization_config", "attn_implementation", "experts_implementation",
    "custom_pipelines", "trust_remote_code", "torch_dtype", "dtype", "device_map",
}  # fmt: skip


@cache
def transformers() -> Any:
    """The library, without its progress bars and advice."""
    library = extra("transformers", "transformers", "this model is run")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


@cache
def diffusers() -> Any:
    """The library, likewise."""
    transformers()  # which runs the text encoders of its pipelines
    library = extra("diffusers", "diffusers", "this pipeline is run")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


def cleaned(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without what would have a library fetch or choose something."""
    return {
        name: cleaned(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name not in NEVER and not name.startswith("_")
    }


def config_of(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """The config in a folder, cleaned. Raises `BundleError`."""
    return cleaned(read_json(folder / name))


def vocabulary_in(folder: Path) -> dict[str, bytes]:
    """The files of a tokenizer in a folder. Raises `BundleError` where none holds a vocabulary: a
    library would make an empty one, and say nothing."""
    found = contents_of(folder, TOKENS)
    if "tokenizer.json" not in found and not {"vocab.json", "merges.txt"} <= found.keys():
        raise BundleError(
            "the vocabulary is missing",
            found=", ".join(found) or "no file of a tokenizer",
            expected="tokenizer.json, or vocab.json and merges.txt", where=folder,
        )  # fmt: skip
    return found


def check_weight_files(folder: Path, stem: str) -> str | None:
    """Raise `BundleError` unless the weights in a folder are whole safetensors; the name of the
    variant that they are, None where it is the plain one."""
    variants = [
        variant
        for variant, suffix in ((None, ".safetensors"), ("fp16", ".fp16.safetensors"))
        for ending in ("", ".index.json")
        if (folder / f"{stem}{suffix}{ending}").is_file()
    ]
    if not variants:
        pickled = [file.name for file in sorted(folder.glob("*.bin")) if file.is_file()]
        raise BundleError(
            "the weights are pickled, and opening a pickle runs whatever code is in it"
            if pickled else "there are no weights",
            found=pickled[0] if pickled else None,
            expected=f"{stem}.safetensors", where=folder,
            hint="in Python, if you trust it: MODEL.from_pretrained(FOLDER, use_safetensors=False)"
            ".save_pretrained(FOLDER), with its class for MODEL" if pickled else None,
        )  # fmt: skip
    for file in sorted(folder.glob(f"{stem}*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise BundleError(f"the file is damaged: {error}", where=file) from error
    return variants[0]


def loaded(model_class: Any, folder: Path, stem: str, config: Any = None) -> nn.Module:
    """A model of either library, in float32, all of whose weights were there and fitted.

    Raises `BundleError`, which lists those that did not.
    """
    variant = check_weight_files(folder, stem)
    if (folder / "adapter_config.json").is_file():
        raise BundleError("this is an adapter of another model", where=folder)
    given: dict[str, Any] = {"variant": variant, "use_safetensors": True, "local_files_only": True}
    given |= {"output_loading_info": True, "torch_dtype": torch.float32}
    given |= {"ignore_mismatched_sizes": True}
    if config is None:
        given |= {"low_cpu_mem_usage": False}
    else:
        given |= {"config": config}
    try:
        model, told = model_class.from_pretrained(folder, **given)
    except (RuntimeError, ValueError, OSError, KeyError, TypeError) as error:
        raise BundleError(
            f"{model_class.__name__} cannot be opened: {_first_line(error)}", where=folder
        ) from error
    check_loaded(told, model_class.__name__, folder)
    model.eval()
    return model


def configured(config_class: Any, config: Mapping[str, Any]) -> Any:
    """A config as the library has it, without what `cleaned` leaves out. Raises `BundleError` for
    what it does not take."""
    try:
        return config_class(**cleaned(config))
    except Exception as error:  # of its own kinds, from its checks of every field
        said = " ".join(str(error).split())
        raise BundleError(f"{config_class.__name__} does not take its config: {said}") from error


def built(model_class: Any, config: Any) -> nn.Module:
    """The same without weights. `ValueError` for a config that the library does not take."""
    try:
        made = getattr(model_class, "from_config", model_class)(config)
    except (RuntimeError, AssertionError, AttributeError) as error:
        raise ValueError(f"{model_class.__name__} of this config: {_first_line(error)}") from error
    made.eval()
    return made


def from_files(reader_class: Any, folder: Path, where: object = None) -> Any:
    """A tokenizer or processor of `transformers` from its files in a folder. Raises `BundleError`
    where they are not there or are none."""
    try:
        return reader_class.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of every kind, from the disk to the tokenizers in Rust
        there = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
        raise BundleError(
            f"{reader_class.__name__} cannot be read: {_first_line(error)}",
            found=", ".join(there) or "no files",
            expected="the vocabulary and the settings that the model was published with",
            where=where,
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
