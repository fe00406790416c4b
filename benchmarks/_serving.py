"""Small models to serve, and a server in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import numpy as np
import psutil
import torch

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.core.spec import TensorSpec
from morphogen.modalities.image import Image
from morphogen.modalities.text import Text
from morphogen.modalities.text.tokenizers import BPE

PROMPT = "The harbour lay still, and the boats that had come in the night were asleep. "


def text_model(place: Path, model_dim: int, num_layers: int) -> Path:
    """Random weights: as costly as trained ones."""
    codec = Text()
    codec.tokenizer, codec.windows = BPE.train([PROMPT] * 3, 300), 256
    codec.spec = TensorSpec.tokens(256, codec.tokenizer.vocab_size, boundary=codec.tokenizer.end)
    recipe = Recipe(
        family={"name": "autoregressive"},
        backbone={
            "name": "token_transformer",
            "model_dim": model_dim,
            "num_layers": num_layers,
            "num_heads": model_dim // 64,
        },
    )
    torch.manual_seed(0)
    family = build_family(recipe, codec.spec, {}).eval()
    return Bundle(family, codec, resolve(recipe, codec.spec)).save(place)


def picture_model(place: Path) -> Path:
    """A flow over pictures of 28 x 28 with the network that it usually has."""
    draw = np.random.default_rng(0)
    codec = Image().fit([Item(draw.integers(0, 256, (28, 28), np.uint8)) for _ in range(8)])
    recipe = Recipe(family={"name": "flow_matching"})
    torch.manual_seed(0)
    family = build_family(recipe, codec.spec, {}).eval()
    return Bundle(family, codec, resolve(recipe, codec.spec)).save(place)


class Server:
    """`morphogen serve` over the models of a folder, in which its records lie as well."""

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self.folder, self.key = folder, folder / "records.key"
        environment = {**os.environ, "MORPHOGEN_RECORDS": str(self.records),
                       "MORPHOGEN_KEY_FILE": str(self.key)}  # fmt: skip
        command = ("-m", "morphogen.cli.app", "serve", "--models", str(folder), "--port", "0",
                   "--rate", "none", *options)  # fmt: skip
        began = time.perf_counter()
        self.log = (folder / "log").open("a")
        self.process = subprocess.Popen(
            [sys.executable, *command], env=environment, text=True, stdout=subprocess.PIPE,
            stderr=self.log, start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        while httpx.get(f"{self.url}/readyz").status_code != 200:
            time.sleep(0.01)
        self.up_s = time.perf_counter() - began  # until it took requests

    @property
    def records(self) -> Path:
        """Where its records lie."""
        return self.folder / "records.db"

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end(signal.SIGTERM)

    def end(self, by: int) -> None:
        """Send it a signal, and wait until it is gone."""
        self.process.send_signal(by)
        self.process.wait()
        self.log.close()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def processor_s(self) -> dict[str, float]:
        """Seconds of a processor that it took so far, and those of its models."""
        own = psutil.Process(self.process.pid)
        models = [sum(child.cpu_times()[:2]) for child in own.children()]
        return {"server": sum(own.cpu_times()[:2]), "models": sum(models)}


def tell(part: str, **found: Any) -> None:
    """A line of JSON: what a part found, and how busy the machine was."""
    load = round(os.getloadavg()[0], 1)
    print(json.dumps({"part": part, "load": load, **found}), flush=True)
