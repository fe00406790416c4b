"""The parts of a pipeline of diffusers: which are known, how each is opened, and built anew.

    model_index.json    {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", ...], ..}

A class is never taken from a file: what a file names is looked up among those that stand here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from morphogen.core import discover
from morphogen.core.codec import Codec
from morphogen.core.driver import contents_of
from morphogen.core.errors import BundleError, did_you_mean
from morphogen.core.spec import TensorSpec
from morphogen.drivers._library import (
    built,
    cleaned,
    config_of,
    configured,
    diffusers,
    loaded,
    transformers,
    vocabulary_in,
)

INDEX = "model_index.json"
PIPELINES = {
    f"StableDiffusion{kind}": {
        work: f"StableDiffusion{kind}{name}Pipeline"
        for work, name in (("sample", ""), ("vary", "Img2Img"), ("fill", "Inpaint"))
    }
    for kind in ("", "XL")
}
KNOWN = {name: kind for kind, names in PIPELINES.items() for name in names.values()}
# Modules by their class: the library that has it, and what its file of weights is called.
MODULES = {
    "UNet2DConditionModel": ("diffusers", "diffusion_pytorch_model"),
    "AutoencoderKL": ("diffusers", "diffusion_pytorch_model"),
    "CLIPTextModel": ("transformers", "model"),
    "CLIPTextModelWithProjection": ("transformers", "model"),
    "StableDiffusionSafetyChecker": ("stable_diffusion", "model"),
}
READERS = {
    "CLIPTokenizer": "CLIPTokenizer",
    "CLIPTokenizerFast": "CLIPTokenizer",
    "CLIPImageProcessor": "CLIPImageProcessor",
    "CLIPImageProcessorPil": "CLIPImageProcessor",
    "CLIPFeatureExtractor": "CLIPImageProcessor",
}
PIXELS = ("preprocessor_config.json",)
PROMPT, NEGATIVE = "prompt", "negative_prompt"
LONGEST = 1024  # bytes of a prompt
END = 256  # after the bytes of a prompt
MAY_BE_ABSENT = {
    "safety_checker", "feature_extractor", "image_encoder", "text_encoder", "tokenizer",
}  # fmt: skip


class Parts:
    """What model_index.json names, opened. Raises `BundleError` for a part that is not known, is
    damaged, or is missing."""

    def __init__(self, folder: Path, index: Mapping[str, Any]) -> None:
        self.networks: dict[str, Any] = {}
        self.readers: dict[str, str] = {}
        self.scheduler: dict[str, Any] = {}
        self.contents: dict[str, bytes] = {}
        self.loaded: dict[str, nn.Module] = {}
        for name, told in index.items():
            is_part = isinstance(told, list) and len(told) == 2 and isinstance(told[1], str)
            if is_part and name.isidentifier():  # a folder in this one
                self._open(name, told[1], folder / name)
        gone = [name for name in ("unet", "vae") if name not in self.networks]
        gone += [] if {"text_encoder", "text_encoder_2"} & {*self.networks} else ["text_encoder"]
        if gone := gone + ["scheduler"] * (not self.scheduler):
            raise BundleError(
                "parts of the pipeline are missing", found=", ".join(gone), where=folder
            )

    def _open(self, name: str, made_of: str, place: Path) -> None:
        if made_of in MODULES:
            config = config_of(place)
            self.networks[name] = {"class": made_of, "config": config}
            self.loaded[name] = _loaded(made_of, place, config)
        elif made_of in READERS:
            self.readers[name] = READERS[made_of]
            is_pixels = READERS[made_of] == "CLIPImageProcessor"
            there = contents_of(place, PIXELS) if is_pixels else vocabulary_in(place)
            self.contents |= {f"{name}/{file}": content for file, content in there.items()}
        elif made_of.endswith("Scheduler"):
            config = config_of(place, "scheduler_config.json")
            self.scheduler = {"class": made_of, "config": config}
        else:
            raise BundleError(
                f"a part of the pipeline is not driven yet.{did_you_mean(made_of, MODULES)}",
                found=f"{name}: {made_of}", where=place.parent,
                expected=", ".join((*MODULES, *sorted({*READERS.values()}), "a scheduler")),
            )  # fmt: skip


def kind_of(pipeline: str, folder: Path) -> str:
    """Which of `PIPELINES` it is one of. Raises `BundleError` for none, naming the nearest."""
    if pipeline not in KNOWN:
        raise BundleError(
            f"this pipeline is not driven yet.{did_you_mean(pipeline, KNOWN)}",
            found=pipeline, expected=", ".join(KNOWN), where=folder / INDEX,
        )  # fmt: skip
    return KNOWN[pipeline]


def config_in(network: Any) -> Any:
    """The config that a network was built with."""
    return network.config


def _class_of(name: str) -> tuple[Any, str]:
    """A network's class, and what its file of weights is called."""
    library, stem = MODULES[name]
    found = transformers() if library == "transformers" else diffusers()
    if library == "stable_diffusion":
        checker = importlib.import_module("diffusers.pipelines.stable_diffusion.safety_checker")
        return getattr(checker, name), stem
    return getattr(found, name), stem


def network_of(told: Mapping[str, Any]) -> nn.Module:
    """A network without weights. `ValueError` where there is none of that class."""
    if told["class"] not in MODULES:
        raise ValueError(f"{told['class']} is none of {', '.join(MODULES)}")
    made_of, _ = _class_of(told["class"])
    reads, config = getattr(made_of, "config_class", None), told["config"]
    return built(made_of, cleaned(config) if reads is None else configured(reads, config))


def _loaded(name: str, place: Path, config: Mapping[str, Any]) -> nn.Module:
    made_of, stem = _class_of(name)
    reads = getattr(made_of, "config_class", None)
    return loaded(made_of, place, stem, None if reads is None else configured(reads, config))


def items_of(networks: Mapping[str, nn.Module]) -> tuple[Codec, dict[str, TensorSpec]]:
    """The codec of the pictures, which reads their prompts too."""
    unet, vae = config_in(networks["unet"]), config_in(networks["vae"])
    factor = 2 ** (len(vae.block_out_channels) - 1)
    told = unet.sample_size
    height, width = (told, told) if isinstance(told, int) else tuple(told)
    height, width = height * factor, width * factor
    codec: Codec = discover.find("modality", "image")(size=min(height, width), mode="RGB")
    codec.spec = TensorSpec("real", (3, height, width), levels=256)
    for name in (PROMPT, NEGATIVE):
        text: Codec = discover.find("modality", "text")(length=LONGEST, tokenizer="byte")
        text.spec = TensorSpec.tokens(LONGEST, END + 1, end=END)
        codec.condition_codecs[name] = text
    return codec, codec.conditions
