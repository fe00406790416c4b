"""What the peers share: the training images, a clock, and the file that their samples go into.

Runs in the peers' own environment: nothing of Morphogen is imported.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch


def arguments() -> argparse.Namespace:
    """--data, --seconds, --out, --num, --seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="folder with the idx.gz files")
    parser.add_argument("--seconds", type=float, required=True, help="wall-clock of training")
    parser.add_argument("--out", type=Path, required=True, help=".npz for the samples and facts")
    parser.add_argument("--num", type=int, default=10_000, help="samples to draw")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    return given


def images(folder: Path, name: str) -> torch.Tensor:
    """An idx.gz file of images as (N, 1, 28, 28) in [0, 1]."""
    with gzip.open(folder / name) as file:
        raw = np.frombuffer(file.read(), np.uint8, offset=16)
    return torch.from_numpy(raw.reshape(-1, 1, 28, 28).copy()).float() / 255


def batches(x: torch.Tensor, batch_size: int, seconds: float) -> Iterator[torch.Tensor]:
    """Shuffled batches until the time is up."""
    started = time.perf_counter()
    while True:
        for rows in torch.randperm(len(x)).split(batch_size):
            if time.perf_counter() - started >= seconds:
                return
            if len(rows) == batch_size:
                yield x[rows]


def save(out: Path, samples: torch.Tensor, **facts: object) -> None:
    """Samples in [0, 1] as uint8 (N, 28, 28), with facts as JSON."""
    out.parent.mkdir(parents=True, exist_ok=True)
    pictures = (samples.clamp(0, 1) * 255).round().byte().reshape(-1, 28, 28).numpy()
    np.savez_compressed(out, x=pictures, facts=json.dumps(facts))
