"""Perplexity of WikiText-2, in words, after some minutes on a CPU, beside an LSTM of the same time.

    python benchmarks/wikitext.py FOLDER --seconds 600

FOLDER holds train.txt, valid.txt and test.txt. Morphogen reads the text as it is, in tokens of its
own choice, and tells every byte of it, so that what it says of the whole text is what a model of
words says of it: perplexity = exp(nats of the text / words), an end of line being one, as published
(AWD-LSTM: 65.8). The peer is the LSTM of PyTorch's example of a word language model (2 layers of
200, tied), with AdamW. Scored is the validation text, or with `--test` the test text.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _scored_text import learned

WIDTH, LAYERS, STEPS, ROWS = 200, 2, 35, 20  # of the peer


def main() -> None:
    """Train and score both; print a line for each."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--seconds", type=float, default=600.0)
    options.add_argument("--only", nargs="*", choices=["ours", "peer"], default=["ours", "peer"])
    options.add_argument("--set", nargs="*", default=[], help="more settings for Morphogen's run")
    options.add_argument("--test", action="store_true")
    given = options.parse_args()
    train = (given.folder / "train.txt").read_text()
    held = (given.folder / ("test.txt" if given.test else "valid.txt")).read_text()
    words = len(in_words(held))
    print(f"{len(in_words(train)):,} words to learn, {words:,} to score", flush=True)
    for name in given.only:
        begun = time.perf_counter()
        if name == "ours":
            nats, facts = own(train, held, given.seconds, given.set)
        else:
            nats, facts = peer(in_words(train), in_words(held), given.seconds)
        took = time.perf_counter() - begun
        print(f"{name:5} perplexity {math.exp(nats / words):.1f}  {facts}; {took:.0f} s in all",
              flush=True)  # fmt: skip


def in_words(text: str) -> list[str]:
    """The words of all lines, and the end of each line."""
    return [word for line in text.splitlines() for word in (*line.split(), "<eos>")]


def own(train: str, held: str, seconds: float, settings: list[str]) -> tuple[float, str]:
    """Nats of the whole text, by Morphogen's default for it."""
    settings = ["family.name=autoregressive", *settings]
    scored, facts = learned(train, held, seconds, settings)
    per_byte = float(scored.bits.sum() / scored.units.sum())
    return float(scored.bits.sum()) * math.log(2), f"{facts}, {per_byte:.3f} bits per byte"


class WordLSTM(nn.Module):
    """Words in, the next words out; one matrix for both."""

    def __init__(self, num_words: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_words, WIDTH)
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        self.lstm = nn.LSTM(WIDTH, WIDTH, LAYERS, dropout=0.2)
        self.dropout = nn.Dropout(0.2)
        self.offset = nn.Parameter(torch.zeros(num_words))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Any]:
        """(T, B) -> (T, B, V) and the state after them."""
        h, state = self.lstm(self.dropout(self.embed(x)), state)
        return F.linear(self.dropout(h), self.embed.weight, self.offset), state


def peer(train: list[str], held: list[str], seconds: float) -> tuple[float, str]:
    """Nats of the held-out words."""
    begun = time.perf_counter()
    numbers = {word: number for number, word in enumerate(dict.fromkeys(train))}
    data = torch.tensor([numbers[word] for word in train])
    rows = data[: len(data) // ROWS * ROWS].view(ROWS, -1).T  # (T, B)
    torch.manual_seed(0)
    model = WordLSTM(len(numbers))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    state, place, steps = None, 0, 0
    while (spent := time.perf_counter() - begun) < seconds:
        if place + STEPS >= len(rows):
            state, place = None, 0
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, 2 * (1 - spent / seconds))
        logits, state = model(rows[place : place + STEPS], state)
        state = tuple(part.detach() for part in state)
        told = rows[place + 1 : place + STEPS + 1]
        loss = F.cross_entropy(logits.flatten(0, 1), told.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        place, steps = place + STEPS, steps + 1
    model.eval()
    test = torch.tensor([numbers.get(word, numbers["<unk>"]) for word in held])
    test, nats, state = torch.cat([torch.tensor([numbers["<eos>"]]), test]), 0.0, None
    with torch.no_grad():
        for part in torch.arange(len(test) - 1).split(500):
            logits, state = model(test[part][:, None], state)
            nats += float(F.cross_entropy(logits[:, 0], test[part + 1], reduction="sum"))
    return nats, f"{steps:,} steps of {STEPS * ROWS} words, vocabulary {len(numbers):,}"


if __name__ == "__main__":
    main()
