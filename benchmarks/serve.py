"""What serving is worth: many clients at once against one after the other, and what a call costs.

    python benchmarks/serve.py --seconds 20                     a random model of 10M weights
    python benchmarks/serve.py --model published/smollm2        one of `models/`

Texts: streams of one client, then of 64, for the same time: tokens a second, errors, records.
Overhead: the median of calls of one token of a tiny model by HTTP, less that in this process.
Pictures: a random U-Net, one client after the other, then 16 at once.

Each part is a ratio of two measurements that follow one another on the same machine; beside it
stands the load of the machine, which is to be about nothing for the numbers to mean much.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import torch

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.core.spec import TensorSpec
from morphogen.core.writing import Request
from morphogen.modalities.image import Image
from morphogen.modalities.text import Text
from morphogen.modalities.text.tokenizers import BPE
from morphogen.records import open as records_at

PROMPT = "The harbour lay still, and the boats that had come in the night were asleep. "
KEY = bytes(32)


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


def picture_model(folder: Path) -> Path:
    """A flow over pictures of 28 x 28 with the network that it usually has."""
    draw = np.random.default_rng(0)
    codec = Image().fit([Item(draw.integers(0, 256, (28, 28), np.uint8)) for _ in range(8)])
    recipe = Recipe(family={"name": "flow_matching"})
    torch.manual_seed(0)
    family = build_family(recipe, codec.spec, {}).eval()
    return Bundle(family, codec, resolve(recipe, codec.spec)).save(folder / "pictures")


async def stream(client: httpx.AsyncClient, model: str, seed: int, found: list[int]) -> None:
    """One text of 32 tokens, each counted as it comes."""
    body = {"model": model, "prompt": PROMPT, "max_tokens": 32, "seed": seed, "stream": True,
            "logprobs": 0}  # fmt: skip
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        if answer.status_code != 200:
            found[1] += 1
            return
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                chunk = json.loads(line[6:])
                found[1] += "error" in chunk
                for choice in chunk.get("choices", ()):
                    found[0] += len((choice["logprobs"] or {}).get("tokens", ()))


async def streams(url: str, model: str, clients: int, seconds: float) -> tuple[float, int, int]:
    """Tokens a second of so many clients, errors, and streams that ended."""
    found, ended = [0, 0], 0
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
        await stream(client, model, 0, [0, 0])
        began = time.perf_counter()

        async def ask(number: int) -> None:
            nonlocal ended
            while time.perf_counter() - began < seconds:
                await stream(client, model, number + 1000 * ended, found)
                ended += 1

        await asyncio.gather(*(ask(number) for number in range(clients)))
        return found[0] / (time.perf_counter() - began), found[1], ended


async def pictures(url: str, clients: int, seconds: float) -> float:
    """Pictures a second of so many clients."""
    drawn = 0
    async with httpx.AsyncClient(base_url=url, timeout=300) as client:
        body = {"model": "pictures", "num": 1, "seed": 0}
        await client.post("/v1/generate", json=body)
        began = time.perf_counter()

        async def ask(number: int) -> None:
            nonlocal drawn
            while time.perf_counter() - began < seconds:
                answer = await client.post("/v1/generate", json={**body, "seed": drawn})
                answer.raise_for_status()
                drawn += 1

        await asyncio.gather(*(ask(number) for number in range(clients)))
        return drawn / (time.perf_counter() - began)


def overhead(url: str, folder: Path, repeats: int) -> tuple[float, float]:
    """Medians in ms of one token by HTTP, and in this process."""
    bundle = Bundle.open(folder / "tiny")
    (prompt,) = bundle.codec.encode_sequences([Item(PROMPT)])
    model: object = bundle.family
    there, here = [], []
    with httpx.Client(base_url=url, timeout=300) as client:
        body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 1}
        for seed in range(repeats + 3):
            began = time.perf_counter()
            client.post("/v1/completions", json={**body, "seed": seed}).raise_for_status()
            middle = time.perf_counter()
            list(model.write([Request(torch.as_tensor(prompt), 1, seed=seed)], num_rows=1))  # type: ignore[attr-defined]
            there.append(middle - began)
            here.append(time.perf_counter() - middle)
    return 1000 * statistics.median(there[3:]), 1000 * statistics.median(here[3:])


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a model of models/, in place of a random one")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--threads", type=int, default=0, help="of a model; 0: all cores")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        text_model(folder / "texts", 384, 6)
        text_model(folder / "tiny", 64, 2)
        picture_model(folder)
        models = folder
        if told.model:
            (folder / "given").symlink_to(Path("models").absolute() / told.model)
        key = folder / "key"
        environment = {**os.environ, "MORPHOGEN_RECORDS": str(folder / "records.db"),
                       "MORPHOGEN_KEY_FILE": str(key)}  # fmt: skip
        command = ("-m", "morphogen.cli.app", "serve", "--models", str(models), "--port", "0",
                   "--rate", "none", "--rows", str(told.clients),
                   "--threads", str(told.threads))  # fmt: skip
        with (folder / "log").open("w") as log:
            server = subprocess.Popen([sys.executable, *command], env=environment, text=True,
                                      stdout=subprocess.PIPE, stderr=log)  # fmt: skip
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            try:
                measure(url, folder, told)
            finally:
                server.terminate()
                server.wait()
        with records_at(folder / "records.db", key=key) as records:
            left = records.generations.cut_abandoned()
            print(f"records of generations that were lost: {left}")


def measure(url: str, folder: Path, told: argparse.Namespace) -> None:
    """All parts."""
    model = "given" if told.model else "texts"
    load = os.getloadavg()[0]
    print(f"load of the machine before: {load:.1f} on {os.cpu_count()} cores")
    one, *_ = asyncio.run(streams(url, model, 1, told.seconds))
    many, errors, ended = asyncio.run(streams(url, model, told.clients, told.seconds))
    print(f"texts: 1 client {one:.1f} tokens/s, {told.clients} clients {many:.1f}: "
          f"{many / one:.1f} times; {ended} streams, {errors} errors")  # fmt: skip
    there, here = overhead(url, folder, 200)
    print(f"one token: {there:.1f} ms by HTTP, {here:.1f} in the process: "
          f"{there - here:.1f} ms of overhead at the median")  # fmt: skip
    one = asyncio.run(pictures(url, 1, told.seconds))
    many = asyncio.run(pictures(url, 16, told.seconds))
    print(f"pictures: 1 client {one:.2f} a second, 16 clients {many:.2f}: {many / one:.1f} times")


if __name__ == "__main__":
    main()
