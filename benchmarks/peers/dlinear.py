"""DLinear (Zeng et al. 2023), written small, on ETTh1: the peer of `benchmarks/series.py`.

    past = moving average + rest,   next = W_1 average + W_2 rest

One map for all columns, look-back 336, horizon 96, batches of 32, Adam at 5e-3 that is halved at
every epoch, the best of the validation split kept, at most ten epochs and three without a gain: the
settings that its authors publish for this data. Columns are scaled by mean and deviation of the
training rows; the score is over the whole test split, no window dropped.

    python benchmarks/peers/dlinear.py --data ETTh1.csv
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

PAST, NEXT, WINDOW = 336, 96, 25
SPLITS = {"train": (0, 8640), "validation": (8640 - PAST, 11520), "test": (11520 - PAST, 14400)}


class DLinear(nn.Module):
    """(B, C, PAST) -> (B, C, NEXT)."""

    def __init__(self) -> None:
        super().__init__()
        self.trend, self.rest = nn.Linear(PAST, NEXT), nn.Linear(PAST, NEXT)

    def forward(self, x: Tensor) -> Tensor:
        """The sum of two maps."""
        half = WINDOW // 2
        wide = torch.cat([x[..., :1].expand(*x.shape[:-1], half), x,
                          x[..., -1:].expand(*x.shape[:-1], half)], -1)  # fmt: skip
        average = nn.functional.avg_pool1d(wide, WINDOW, 1)
        return self.trend(average) + self.rest(x - average)


def rows_of(path: Path) -> Tensor:
    """(N, C), scaled."""
    with path.open() as file:
        values = np.array([[float(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]])
    train = values[: SPLITS["train"][1]]
    return torch.tensor((values - train.mean(0)) / train.std(0), dtype=torch.float32)


def windows(values: Tensor, split: str) -> tuple[Tensor, Tensor]:
    """Pasts (N, C, PAST) and what came next (N, C, NEXT)."""
    start, end = SPLITS[split]
    every = values[start:end].unfold(0, PAST + NEXT, 1)
    return every[..., :PAST], every[..., PAST:]


@torch.no_grad()
def errors(model: nn.Module, pair: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Mean squared and mean absolute error."""
    gaps = torch.cat(
        [model(x) - y for x, y in zip(*(part.split(256) for part in pair), strict=True)]
    )
    return float(gaps.square().mean()), float(gaps.abs().mean())


def main() -> None:
    """One line of JSON."""
    options = argparse.ArgumentParser()
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    torch.manual_seed(given.seed)
    values, begun = rows_of(given.data), time.perf_counter()
    (x, y), held = windows(values, "train"), windows(values, "validation")
    model = DLinear()
    best, kept, waited = float("inf"), copy.deepcopy(model.state_dict()), 0
    for epoch in range(10):
        optimizer = torch.optim.Adam(model.parameters(), 5e-3 * 0.5**epoch)
        for rows in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x[rows]), y[rows]).backward()
            optimizer.step()
        loss = errors(model, held)[0]
        waited = 0 if loss < best else waited + 1
        if loss < best:
            best, kept = loss, copy.deepcopy(model.state_dict())
        if waited == 3:
            break
    model.load_state_dict(kept)
    mse, mae = errors(model, windows(values, "test"))
    print(json.dumps({
        "model": "DLinear", "mse": mse, "mae": mae, "validation_mse": best, "epochs": epoch + 1,
        "windows": len(windows(values, "test")[0]), "seconds": time.perf_counter() - begun,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
