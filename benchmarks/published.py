"""Published models here and where they come from: the same tokens, greedily?

    python benchmarks/published.py smollm2 models/published/smollm2    against llama.cpp, same file
    python benchmarks/published.py stories FOLDER                      stories260K, its reference

llama.cpp multiplies quantised weights with activations in eight bits, and here both are float32: a
text may part from the other where two tokens are nearly equally likely. The first token that
differs is told, and how much likelier ours is than theirs to the bundle. Results: RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from morphogen.core.writing import Limits, Request
from morphogen.interop.gguf import read_gguf, write_gguf
from morphogen.interop.importing import import_model
from morphogen.interop.replay import in_llama_cpp
from morphogen.modalities.text.chat import Message
from morphogen.systems.chat import Chat

ASKED = ("What is the capital of France?", "Write a haiku about rain.", "Why is the sky blue?",
         "Give me three names for a cat.", "Translate 'good morning' into Spanish.")  # fmt: skip
MOST = 48


def greedy(model: Any, prompt: torch.Tensor, most: int, begins: bool) -> list[Any]:
    """The likeliest tokens after a prompt, with what was likely beside each."""
    request = Request(prompt, most, Limits(temperature=0), num_alternatives=16, begins=begins)
    return [written for step in model.write([request]) for written in step]


def smollm2(folder: Path) -> None:
    """Five questions, by the template, on the quantised file and on the same numbers in F32."""
    (file,) = folder.glob("*.gguf")
    begun = time.perf_counter()
    bundle = import_model(file)
    print(f"imported in {time.perf_counter() - begun:.1f} s")
    talk, stored = Chat(bundle), read_gguf(file)
    plain = Path("/tmp") / "published-f32.gguf"
    numbers = {name: each.tensor() for name, each in stored.tensors.items()}
    write_gguf(plain, stored.facts, numbers, lambda name, tensor: "F32")
    prompts = [torch.from_numpy(talk._read((Message("user", asked),))) for asked in ASKED]
    begun = time.perf_counter()
    ours = [greedy(bundle.family, prompt, MOST, False) for prompt in prompts]
    print(f"ours: {sum(map(len, ours)) / (time.perf_counter() - begun):.1f} tokens/s")
    for name, there in (("Q4_1 and Q8_0, as it came", file), ("the same in F32", plain)):
        print(f"\n{name}")
        runs = in_llama_cpp(there, [prompt.tolist() for prompt in prompts], MOST)
        for asked, own, their in zip(ASKED, ours, runs, strict=True):
            print(f"| {asked} | {told(own, their, bundle.codec)} |")
    plain.unlink()


def told(own: list[Any], their: dict[str, Any], codec: Any) -> str:
    """Where the two part, if they do."""
    both = list(zip(own, their["tokens"], strict=False))
    near = [abs(a.log_prob - b) for a, b in zip(own, their["log_probs"], strict=False) if b]
    for place, (a, b) in enumerate(both):
        if a.token != b:
            known = dict(a.alternatives)
            gap = f"{a.log_prob - known[b]:.3f} nats" if b in known else "more than 16 likelier"
            names = f"{codec.token_text(a.token)!r} here, {codec.token_text(b)!r} there"
            return f"token {place + 1} of {len(both)}: {names} | {gap}"
    return f"all {len(both)} tokens | log p {sum(near) / max(len(near), 1):.4f} apart"


def stories(folder: Path) -> None:
    """The reference text of llama2.c, token for token."""
    bundle = import_model(folder / "stories260K.bin")
    expected = json.loads((folder / "reference_greedy_200.json").read_text())
    tokens = expected["token_ids_after_bos"]
    nothing = torch.zeros(0, dtype=torch.int64)
    came = [each.token for each in greedy(bundle.family, nothing, len(tokens), True)]
    text = bundle.codec.tokenizer.decode(came).decode()
    reference = (folder / "reference_greedy_200.txt").read_text().strip("\n")
    print(f"{len(tokens)} tokens {'are' if came == tokens else 'are NOT'} those of the reference, "
          f"the text {'is' if text == reference else 'is NOT'}")  # fmt: skip


def main() -> None:
    """See the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=("smollm2", "stories"))
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    {"smollm2": smollm2, "stories": stories}[asked.which](asked.folder)


if __name__ == "__main__":
    main()
