"""How well is a small text learned in three minutes on a CPU, and by which family?

    python benchmarks/shakespeare.py INPUT.TXT
    python benchmarks/shakespeare.py INPUT.TXT --only ours --seconds 180

INPUT.TXT is Tiny Shakespeare: its first 1,003,854 characters are trained on, and all of the other
111,540 are scored, each after as much of what stands before it as the model takes (the stride is
said), with an interval by a bootstrap over blocks of text. The time is that of the whole command
`morphogen train`, its start and its writing included; a run is told to stop 28 seconds before.

    ours        autoregressive, all by default: nats per character, exact
    lstm        the same family with an LSTM
    masked      any order, a bound
    peer        nanoGPT's setting for CPUs (4 layers of 128, 64 characters of context, batch 12,
                2,000 steps of AdamW), the network and optimizer of transformers and PyTorch, ended
                when its time is up, scored in the same way

`--holdout` scores the last 50,000 characters of the training text instead, which are then left out
of training: what settings are chosen by.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from _scored_text import learned

TRAINED, HELD_OUT = 1_003_854, 50_000
SPARED = 28.0  # seconds for the start of the command, its forecast, and writing the bundle
OWN = {
    "ours": ("autoregressive", []),
    "lstm": ("autoregressive", ["backbone.name=rnn", "backbone.model_dim=384", "train.lr=0.003"]),
    "masked": ("masked", []),
}


def main() -> None:
    """Train and score each entrant; print a line for each."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("text", type=Path)
    options.add_argument("--seconds", type=float, default=180.0)
    options.add_argument("--only", nargs="*", choices=[*OWN, "peer"], default=[*OWN, "peer"])
    options.add_argument("--set", nargs="*", default=[], help="more settings for Morphogen's runs")
    options.add_argument("--holdout", action="store_true")
    given = options.parse_args()
    text = given.text.read_text()
    cut = TRAINED - HELD_OUT if given.holdout else TRAINED
    train, held = text[:cut], text[cut:TRAINED] if given.holdout else text[TRAINED:]
    print(f"{len(train):,} characters to learn, {len(held):,} to score", flush=True)
    for name in given.only:
        begun = time.perf_counter()
        if name == "peer":
            score, facts = peer(train, held, given.seconds)
        else:
            score, facts = own(name, train, held, given.seconds, given.set)
        took = time.perf_counter() - begun
        print(f"{name:8} {score}  {facts}; {took:.0f} s with scoring", flush=True)


def own(name: str, train: str, held: str, seconds: float, more: list[str]) -> tuple[str, str]:
    """One of Morphogen's families, by its own command."""
    family, settings = OWN[name]
    settings = [f"family.name={family}", *settings, *more]
    scored, facts = learned(train, held, seconds - SPARED, settings)
    nats = float(scored.bits.sum() / scored.units.sum()) * math.log(2)
    low, high = (end * math.log(2) for end in scored.interval(0))
    return f"{nats:.4f} nats ({low:.3f} to {high:.3f})", facts


def peer(train: str, held: str, seconds: float) -> tuple[str, str]:
    """nanoGPT's setting for CPUs."""
    from transformers import GPT2Config, GPT2LMHeadModel

    begun = time.perf_counter()
    signs = {sign: number for number, sign in enumerate(sorted(set(train)))}
    data, test = (torch.tensor([signs[sign] for sign in part]) for part in (train, held))
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(signs), n_positions=64, n_embd=128, n_layer=4, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    step = 0
    while step < 2000 and time.perf_counter() - begun < seconds:
        rate = min((step + 1) / 100, 1e-1 + 0.45 * (1 + math.cos(math.pi * step / 2000)))
        optimizer.param_groups[0]["lr"] = 1e-3 * rate
        first = torch.randint(len(data) - 64, (12,))
        x = data[first[:, None] + torch.arange(64)]
        loss = model(x, labels=x).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
    took = time.perf_counter() - begun
    model.eval()
    nats = windows(test, lambda x: model(x).logits.log_softmax(-1))
    return f"{nats:.4f} nats", f"exact; {step:,} steps, {took:.0f} s, windows moved on by 16"


@torch.no_grad()
def windows(test: Tensor, log_probs: Callable[[Tensor], Tensor], length: int = 64) -> float:
    """Nats per token, each after at least 48 others where there are as many."""
    total, step = torch.zeros(()), length // 4
    first = torch.arange(0, len(test) - length + 1, step)
    for starts in first.split(256):
        x = test[starts[:, None] + torch.arange(length)]
        told = log_probs(x)[:, :-1].gather(2, x[:, 1:, None])[..., 0]  # (B, length - 1)
        total += told[:, -step:].sum()
        if int(starts[0]) == 0:
            total += told[0, :-step].sum()
    return -float(total) / (int(first[-1]) + length - 1)


if __name__ == "__main__":
    main()
