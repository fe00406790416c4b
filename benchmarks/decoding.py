"""How fast texts go on, against `transformers` with the same weights, in turns in the same run.

    python benchmarks/decoding.py                    a Llama of 134M parameters, random weights
    python benchmarks/decoding.py --stories FOLDER   stories260K (llama2.c), and its reference text
    python benchmarks/decoding.py --smollm2 FOLDER   SmolLM2-135M, against llama.cpp in F32 and F16

Of each form the best of several turns is taken, the reading speed of the memory among them, so that
what else runs on the machine weighs on all alike; its load is told. Results are in RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from morphogen.backbones.token_transformer import TokenTransformer
from morphogen.core.backbone import BuildBackbone
from morphogen.core.spec import TensorSpec
from morphogen.core.writing import Limits, Request
from morphogen.families.autoregressive import Autoregressive
from morphogen.interop.exported import facts_of
from morphogen.interop.gguf import read_gguf, write_gguf
from morphogen.interop.importing import import_model

LLAMA = {"model_dim": 576, "num_layers": 30, "num_heads": 9, "num_kv_heads": 3, "hidden_dim": 1536}
LENGTH, VOCAB = 512, 49_152
GREEDY = Limits(temperature=0)
PROBED = 1 << 25  # numbers read to see how fast memory is read


def build(length: int, vocab_size: int, **shape: Any) -> Autoregressive:
    """A language model; the start token is the last that it embeds."""
    torch.manual_seed(0)
    spec = TensorSpec.tokens(length, vocab_size)
    return Autoregressive(spec, {}, BuildBackbone(TokenTransformer, tied=True, **shape)).eval()


def theirs(model: Autoregressive, eps: float = 1e-6, **shape: Any) -> Any:
    """The same weights in `transformers`."""
    import transformers

    network: Any = model.network
    config = transformers.LlamaConfig(
        vocab_size=network.in_spec.vocab_size, hidden_size=shape["model_dim"],
        intermediate_size=shape["hidden_dim"], num_hidden_layers=shape["num_layers"],
        num_attention_heads=shape["num_heads"], num_key_value_heads=shape["num_kv_heads"],
        rms_norm_eps=eps, tie_word_embeddings=True, max_position_embeddings=model.num_tokens,
        pad_token_id=0, bos_token_id=model.start, eos_token_id=None,
    )  # fmt: skip
    llama = transformers.LlamaForCausalLM(config).eval()
    state = {f"model.{name}": value for name, value in network.state_dict().items()}
    llama.load_state_dict({**state, "lm_head.weight": network.embed_tokens.weight})
    return llama


def ours(model: Autoregressive, prompt: Tensor, most: int, num: int = 1) -> list[list[int]]:
    """`num` texts of `most` tokens after a prompt, the most probable."""
    texts: list[list[int]] = [[] for _ in range(num)]
    for step in model.write([Request(prompt, most, GREEDY)] * num, num_rows=num):
        for written in step:
            texts[written.row].append(written.token)
    return texts


@torch.no_grad()
def generated(llama: Any, prompt: Tensor, most: int, num: int = 1) -> list[list[int]]:
    """The same by `generate`, the start token before the prompt."""
    start = torch.cat([torch.tensor([llama.config.bos_token_id]), prompt])[None].expand(num, -1)
    found = llama.generate(
        start, attention_mask=torch.ones_like(start), max_new_tokens=most, min_new_tokens=most,
        do_sample=False,
    )  # fmt: skip
    return found[:, start.shape[1] :].tolist()


def in_turns(forms: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The fewest seconds that each took."""
    times: dict[str, float] = {}
    for _ in range(rounds):
        for name, form in forms.items():
            begun = time.perf_counter()
            form()
            seconds = time.perf_counter() - begun
            times[name] = min(times.get(name, seconds), seconds)
    return times


def per_token(model: Autoregressive, num: int) -> Callable[[], None]:
    """One step of `num` rows, each at its 24th token: what a token costs once all is running."""
    network: Any = model.network
    rows = network.rows(num)
    for row in range(num):
        rows.begin(row, torch.arange(24))

    def step() -> None:
        rows.advance([5] * num, range(num))
        for row in range(num):
            rows.cut(row, 24)

    return step


def large(threads: int, rounds: int) -> None:
    """The table of the 134M Llama."""
    model, flat = build(LENGTH, VOCAB, **LLAMA), torch.ones(PROBED)
    llama, prompt = theirs(model, **LLAMA), torch.arange(16)
    torch.set_num_threads(threads)
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    begun = time.perf_counter()
    forms: dict[str, Callable[[], Any]] = {"probe": flat.sum, "1 row": per_token(model, 1)}
    made = time.perf_counter() - begun
    forms["4 rows"], forms["16 rows"] = per_token(model, 4), per_token(model, 16)
    times = in_turns(forms, rounds)
    short, long = 4, 28
    whole: dict[str, Callable[[], Any]] = {"probe": flat.sum}
    for most in (short, long):
        whole[f"ours {most}"] = lambda most=most: ours(model, prompt, most)
        whole[f"theirs {most}"] = lambda most=most: generated(llama, prompt, most)
    taken = in_turns(whole, max(rounds // 3, 2))
    fast = 4 * PROBED / min(times["probe"], taken["probe"])
    print(f"\n{threads} threads: memory read at {fast / 1e9:.1f} GB/s, weights of "
          f"{size / 1e6:.0f} MB made ready in {made:.1f} s")  # fmt: skip
    for name in ("1 row", "4 rows", "16 rows"):
        num = int(name.split()[0])
        speed = num / times[name]
        print(f"| {name} | {speed:.1f} tokens/s | {size / times[name] / fast:.0%} of the bandwidth "
              f"| {speed * times['1 row']:.1f} |")  # fmt: skip
    steps = {who: (taken[f"{who} {long}"] - taken[f"{who} {short}"]) / (long - short)
             for who in ("ours", "theirs")}  # fmt: skip
    print(f"write {1 / steps['ours']:.1f} tokens/s, transformers {1 / steps['theirs']:.1f}: "
          f"{steps['theirs'] / steps['ours']:.1f} times")  # fmt: skip


def stories(folder: Path, rounds: int) -> None:
    """The reference text token for token, and the speed."""
    torch.set_num_threads(1)
    bundle = import_model(folder / "stories260K.bin")
    model: Any = bundle.family
    shape = {name: value for name, value in facts_of(bundle).items() if name in (*LLAMA, "eps")}
    told = json.loads((folder / "reference_greedy_200.json").read_text())
    expected = next(value for value in told.values() if isinstance(value, list))
    nothing, llama = torch.zeros(0, dtype=torch.int64), theirs(model, **shape)
    most = len(expected)
    same = ours(model, nothing, most)[0] == expected
    print(f"\nstories260K: {most} tokens {'are' if same else 'are NOT'} those of the reference")
    times = in_turns(
        {
            "ours": lambda: ours(model, nothing, most),
            "theirs": lambda: generated(llama, nothing, most),
        },
        rounds,
    )
    speeds = {who: most / seconds for who, seconds in times.items()}
    print(f"write {speeds['ours']:.0f} tokens/s, transformers {speeds['theirs']:.0f}: "
          f"{speeds['ours'] / speeds['theirs']:.1f} times")  # fmt: skip


def smollm2(folder: Path, threads: int, rounds: int) -> None:
    """One text at a time, against llama.cpp on the same numbers."""
    torch.set_num_threads(threads)
    (came,) = folder.glob("*.gguf")
    model: Any = import_model(came).family
    stored = read_gguf(came)
    numbers = {name: each.tensor() for name, each in stored.tensors.items()}
    size, flat = 4 * sum(parameter.numel() for parameter in model.parameters()), torch.ones(PROBED)
    times = in_turns({"probe": flat.sum, "ours": per_token(model, 1)}, rounds)
    with tempfile.TemporaryDirectory() as written:
        for kind in ("F32", "F16"):
            file = Path(written) / f"{kind}.gguf"
            write_gguf(
                file, stored.facts, numbers, lambda _, t, kind=kind: kind if t.dim() > 1 else "F32"
            )
            times[kind] = min(llama_cpp(file, threads) for _ in range(3))
            again = in_turns({"probe": flat.sum, "ours": per_token(model, 1)}, rounds)
            times |= {name: min(seconds, times[name]) for name, seconds in again.items()}
    fast = 4 * PROBED / times["probe"]
    print(f"\nSmolLM2-135M, {threads} threads: memory read at {fast / 1e9:.1f} GB/s")
    for name in ("ours", "F32", "F16"):
        read = size / (2 if name == "F16" else 1) / times[name] / fast
        print(f"| {name} | {1 / times[name]:.1f} tokens/s | {read:.0%} of the bandwidth "
              f"| ours is {times[name] / times['ours']:.2f} times as fast |")  # fmt: skip


def llama_cpp(file: Path, threads: int) -> float:
    """Seconds that llama.cpp takes for a token, prompts not counted."""
    command = [sys.executable, str(Path(__file__).parent / "peers" / "llama_cpp_speed.py")]
    command += [str(file), str(threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """See the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=Path, help="folder of stories260K.bin and its reference")
    parser.add_argument("--smollm2", type=Path, help="folder of its GGUF file")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=12)
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    if asked.stories:
        stories(asked.stories, asked.rounds)
    elif asked.smollm2:
        for threads in asked.threads:
            smollm2(asked.smollm2, threads, asked.rounds)
    else:
        for threads in asked.threads:
            large(threads, asked.rounds)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
