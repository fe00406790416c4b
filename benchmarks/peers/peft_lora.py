"""A low-rank adapter of PEFT on a Llama of `transformers`: steps, or minutes of them.

Batches are padded to their longest conversation, as TRL's collator does. Nothing of Morphogen is
imported; `judge` measures adapters of both with one program.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

BATCH_SIZE, RANK, ALPHA, WARMUP, IGNORED = 8, 8, 16, 0.05, -100
NUM_DRAWS = 1000  # of the bootstrap


def main() -> None:
    """Time --steps, or train for --minutes; or judge adapters."""
    options = argparse.ArgumentParser()
    options.add_argument("--folder", type=Path, required=True)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--minutes", type=float)
    options.add_argument("--lr", type=float, default=1e-3)
    options.add_argument("--judge", nargs="*", type=Path, help="folders of adapters")
    given = options.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(given.threads)
    model: Any = AutoModelForCausalLM.from_pretrained(given.folder / "base", dtype=torch.float32)
    if given.judge:
        print(json.dumps(judge(model, given.judge, read(given.folder / "held_out.npz"))))
        return
    wanted = LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, wanted).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=given.lr)
    begun = time.perf_counter()
    steps, tokens, seconds, cpu = 0, 0, begun, time.process_time()
    for items in batches(read(given.folder / "trained.npz")):
        progress = (time.perf_counter() - begun) / (60 * (given.minutes or 60))
        if progress >= 1:
            break
        if given.minutes:
            for group in optimizer.param_groups:
                group["lr"] = given.lr * min(progress / WARMUP, (1 - progress) / (1 - WARMUP))
        x, labels = padded(items)
        loss = model(input_ids=x, attention_mask=mask(items), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
        tokens += sum(len(t) for t, _ in items)
        if steps == 1:  # the first warms up
            tokens, seconds, cpu = 0, time.perf_counter(), time.process_time()
    if given.minutes:
        model.save_pretrained(given.folder / "PEFT")
        print(json.dumps({"steps": steps}))
        return
    facts = {
        "tokens/s": round(tokens / (time.perf_counter() - seconds), 1),
        "tokens/processor s": round(tokens / (time.process_time() - cpu), 1),
        "peak GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    print(json.dumps(facts))


def read(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Conversations: tokens, and which of them are learned."""
    held = np.load(path)
    lengths = held["lengths"].tolist()
    tokens, learned = (torch.from_numpy(held[name]) for name in ("tokens", "learned"))
    return list(zip(tokens.long().split(lengths), learned.split(lengths), strict=True))


def batches(items: list[Any]) -> Iterator[list[Any]]:
    """So many at a time."""
    for start in range(0, len(items) - BATCH_SIZE + 1, BATCH_SIZE):
        yield items[start : start + BATCH_SIZE]


def padded(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Tokens and labels (B, L), L that of the longest."""
    pad = torch.nn.utils.rnn.pad_sequence
    labels = [tokens.masked_fill(~learned, IGNORED) for tokens, learned in items]
    return pad([t for t, _ in items], True), pad(labels, True, IGNORED)


def mask(items: list[tuple[Tensor, Tensor]]) -> Tensor:
    """What is no padding: (B, L)."""
    return torch.nn.utils.rnn.pad_sequence([torch.ones_like(t) for t, _ in items], True)


@torch.no_grad()
def judge(model: Any, adapters: list[Path], items: list[Any]) -> dict[str, Any]:
    """Nats a learned token of each adapter and of the base, with 95 % intervals over items; and
    of each the difference to the first."""
    weights = torch.tensor([float(learned[1:].sum()) for _, learned in items])
    losses = {"base": nats(model, items)}
    for path in adapters:
        adapted = PeftModel.from_pretrained(model, path)
        losses[path.name] = nats(adapted, items)
        model = adapted.unload()
    found: dict[str, Any] = {"items": len(items)}
    draws = torch.randint(len(items), (NUM_DRAWS, len(items)))
    first = losses[adapters[0].name]
    for name, own in losses.items():
        for what, values in ((name, own), (f"{name} - {adapters[0].name}", own - first)):
            means = values[draws].sum(1) / weights[draws].sum(1)
            low, high = means.quantile(torch.tensor([0.025, 0.975])).tolist()
            mean = float(values.sum() / weights.sum())
            found[what] = [round(number, 4) for number in (mean, low, high)]
    return found


def nats(model: Any, items: list[tuple[Tensor, Tensor]]) -> Tensor:
    """- log p of the learned tokens of each item: (items,)."""
    model.eval()
    told = []
    for tokens, learned in items:
        logits = model(input_ids=tokens[None]).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")
        told.append((each * learned[1:]).sum())
    return torch.stack(told)


if __name__ == "__main__":
    main()
