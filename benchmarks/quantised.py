"""What weights of eight and of four bits cost and give: tokens a second, perplexity on a text.

    python benchmarks/quantised.py models/base --text wiki.valid.txt

The bundle (`morphogen import models/published/smollm2 --out models/base`) against the same in int8,
in turns in the same run: the best of several steps, by the clock and by the time of the process.
Weights of four bits, which are read as float32, are scored alone (no `--threads`: no steps).
The perplexity is of the first bytes of the text, in windows that each begin anew. See RESULTS.md.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path
from typing import Any

import torch

from morphogen.core.bundle import Bundle
from morphogen.core.family import own_state
from morphogen.wrappers.int4 import in_int4
from morphogen.wrappers.int8 import in_int8

WINDOW = 512  # tokens that are scored together
AT = 24  # tokens before the one that is timed


def speeds(models: dict[str, Any], num: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds of a step of `num` rows: by the clock, and of the process."""
    rows = {name: model.network.rows(num) for name, model in models.items()}
    for each in rows.values():
        for row in range(num):
            each.begin(row, torch.arange(AT))
    best = dict.fromkeys(models, (math.inf, math.inf))
    for _ in range(rounds):
        for name, each in rows.items():
            wall, own = time.perf_counter(), time.process_time()
            each.advance([5] * num, range(num))
            taken = time.perf_counter() - wall, time.process_time() - own
            best[name] = tuple(map(min, best[name], taken))
            for row in range(num):
                each.cut(row, AT)
    return best


@torch.no_grad()
def log_probs(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """log p of each token after the first of its window."""
    found = []
    for window in torch.split(tokens, WINDOW):
        if len(window) > 1:
            told = model.network.log_probs(window[None, :-1], window[None, 1:])
            found.append(told[0])
    return torch.cat(found).double()


def main() -> None:
    """See the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--bytes", type=int, default=20_000)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    bundle = Bundle.open(asked.bundle)
    models: dict[str, Any] = {"float32": bundle.family, "int8": in_int8(bundle).family}
    for threads in asked.threads:
        torch.set_num_threads(threads)
        for num in (1, 4):
            best = speeds(models, num, asked.rounds)
            for name, (wall, own) in best.items():
                print(f"| {threads} threads, {num} rows | {name} | {num / wall:.1f} tokens/s "
                      f"| {1e3 * own:.1f} ms of the process |", flush=True)  # fmt: skip
            gain = [best["float32"][i] / best["int8"][i] for i in (0, 1)]
            print(f"  int8 {gain[0]:.2f} times as fast, {gain[1]:.2f} by the process")
    print(f"load {os.getloadavg()[0]:.1f}")
    if asked.text is not None:
        text = asked.text.read_bytes()[: asked.bytes]
        tokens = torch.as_tensor(bundle.codec.tokenizer.encode(text))
        plain = log_probs(models.pop("float32"), tokens)
        exact = math.exp(-float(plain.mean()))
        for name in (*models, "int4"):
            model = models[name] if name in models else in_int4(bundle).family
            change = log_probs(model, tokens) - plain
            rounded = exact * math.exp(-float(change.mean()))
            error = float(change.std()) / math.sqrt(len(change))
            size = sum(each.nbytes for each in own_state(model).values())
            print(f"perplexity of {len(change):,} tokens: {exact:.4f} in float32, {rounded:.4f} in "
                  f"{name}, {rounded / exact - 1:+.3%} (standard error {error:.3%}), "
                  f"{size / 1e6:.1f} MB", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
