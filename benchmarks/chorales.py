"""Bach's chorales: nats a step of the 88 keys, exact, on the whole test part.

    python benchmarks/chorales.py SHARED/data/jsb-chorales --minutes 8

Ours is what `morphogen train` takes by itself, trained on the training part alone, its checkpoint
the last one. A step's likelihood is that of its tokens (notes ascending, then the end of the
step), so that it is a bound: what the model gives to other ways of writing a step is lost. Pieces
longer than the model sees at once are told in windows of it, half of which is context.

Published, of the same steps (Boulanger-Lewandowski et al. 2012; Bai et al. 2018): RNN-NADE 5.56,
RNN-RBM 6.27, TCN 8.10, GRU 8.43, LSTM 8.45. With --peer, a TCN as in that paper (independent keys
given the past) is trained for the same time here.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import morphogen as mg
from morphogen.modalities.music import END, STEP
from morphogen.modalities.music.piece import LOWEST, Piece

NUM_DRAWS = 1000


def main() -> None:
    """A line of JSON for each."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--minutes", type=float, default=8.0, help="of training, of each")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--held", action="store_true", help="judge by the validation part")
    options.add_argument("--peer", action="store_true", help="the TCN too")
    options.add_argument("--set", dest="settings", action="append", default=[])
    options.add_argument("--out", type=Path, help="keep the bundle there")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    told = json.loads((given.folder / "jsb-chorales-quarter.json").read_text())
    held = [Piece.of(steps) for steps in told["valid" if given.held else "test"]]
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "train.json"
        part.write_text(json.dumps({"train": told["train"], "test": told["valid"]}))
        out = given.out or Path(folder) / "bundle"
        began = time.monotonic()
        bundle = mg.train(part, budget=f"{given.minutes}m", out=out, settings=given.settings)
        seconds = time.monotonic() - began
        report("ours", [nats(bundle, piece) for piece in held], held, seconds)
    if given.peer:
        train = [Piece.of(steps) for steps in told["train"]]
        began = time.monotonic()
        network = tcn(train, given.minutes * 60)
        report("TCN", [tcn_nats(network, piece) for piece in held], held, time.monotonic() - began)


def report(what: str, totals: Sequence[float], held: Sequence[Piece], seconds: float) -> None:
    """Nats a step, with an interval by a bootstrap of pieces."""
    steps = np.array([len(piece.steps) for piece in held], float)
    x, draw = np.array(totals), np.random.default_rng(0)
    picks = draw.integers(0, len(x), (NUM_DRAWS, len(x)))
    low, high = np.quantile(x[picks].sum(1) / steps[picks].sum(1), [0.025, 0.975])
    value = round(float(x.sum() / steps.sum()), 3)
    print(json.dumps({
        "what": what, "nats a step": value, "low": round(float(low), 3),
        "high": round(float(high), 3), "pieces": len(x), "steps": int(steps.sum()),
        "seconds": round(seconds),
    }), flush=True)  # fmt: skip


def nats(bundle: mg.Bundle, piece: Piece) -> float:
    """-log p of a piece's steps, in windows of what the model sees."""
    tokens = [t for step in piece.steps for t in (*(p - LOWEST for p in step), STEP)]
    length = bundle.codec.spec.shape[0]
    total, done = 0.0, 0
    while done < len(tokens):
        first = max(0, done - length // 2) if done else 0
        part = tokens[first : first + length - 1]
        x = torch.full((1, length), END)
        x[0, : len(part)] = torch.tensor(part)
        told = bundle.family.token_log_prob(x)[0, : len(part)]
        new = done - first
        total -= float(told[new:].double().sum())
        done = first + len(part)
    return total


# -- the peer -------------------------------------------------------------------------------------


class TCN(nn.Module):
    """Dilated causal convolutions over time; each key of the next step on its own."""

    def __init__(self, width: int = 150, num: int = 4, kernel: int = 5, drop: float = 0.5) -> None:
        super().__init__()
        self.first = nn.Conv1d(88, width, 1)
        self.blocks = nn.ModuleList(
            nn.Conv1d(width, width, kernel, dilation=2**i, padding=(kernel - 1) * 2**i)
            for i in range(num)
        )
        self.drop, self.head = nn.Dropout(drop), nn.Conv1d(width, 88, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 88, T) -> logits of the steps that follow, (B, 88, T)."""
        h = self.first(x)
        for block in self.blocks:
            h = h + self.drop(torch.relu(block(h)[..., : h.shape[-1]]))
        return self.head(h)


def as_roll(piece: Piece) -> Tensor:
    """(88, T) of 0 and 1."""
    roll = torch.zeros(88, len(piece.steps))
    for place, step in enumerate(piece.steps):
        roll[[pitch - LOWEST for pitch in step], place] = 1
    return roll


def tcn(pieces: Sequence[Piece], seconds: float) -> TCN:
    """Trained for so long, piece by piece, as the paper does."""
    torch.manual_seed(0)
    network, rolls = TCN(), [as_roll(piece) for piece in pieces]
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        for place in torch.randperm(len(rolls)).tolist():
            loss = _tcn_loss(network, rolls[place])
            optimizer.zero_grad()
            (loss / rolls[place].shape[1]).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 0.4)
            optimizer.step()
    return network.eval()


def _tcn_loss(network: TCN, roll: Tensor) -> Tensor:
    before = torch.cat([torch.zeros(88, 1), roll[:, :-1]], 1)
    return nn.functional.binary_cross_entropy_with_logits(
        network(before[None])[0], roll, reduction="sum"
    )


@torch.no_grad()
def tcn_nats(network: TCN, piece: Piece) -> float:
    """-log p of a piece."""
    return float(_tcn_loss(network, as_roll(piece)))


if __name__ == "__main__":
    main()
