r"""Is what a classifier is sure of as often true as it is sure?

    reliability_error   sum_b n_b / n |share that is right in b - mean probability in b|

over `BINS` bins of equally many held-out items, ordered by the probability of the class that is
taken (Naeini et al. 2015; Guo et al. 2017). A few items differ from any probability by chance: the
floor is the same with classes drawn by the probabilities themselves (Broecker & Smith 2007).

Legend: N items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from morphogen.core.bundle import Bundle
from morphogen.core.capability import CanPredict, missing
from morphogen.core.measurement import Measurement
from morphogen.core.random import mix_seed
from morphogen.data.dataset import Data
from morphogen.evaluation.features import parts

BINS, REPEATS = 15, 200
FEWEST = 2 * BINS  # items


@torch.no_grad()
def calibration(
    bundle: Bundle, data: Data, protocol: dict[str, Any], seed: int
) -> list[Measurement]:
    """The error of a classifier's probabilities on held-out items; none of other models."""
    model: Any = bundle.family
    if missing(model, CanPredict) or model.target_spec.kind != "token":
        return []
    seen = model.spec == data.spec and model.target in data.test.cond
    if not seen or len(data.test) < FEWEST:
        return []
    sure, right = [], []
    for index in parts(len(data.test)):
        batch = data.test.batch(index).to(model.device)
        best = model.predict(batch.x).max(1)
        sure.append(best.values.cpu())
        right.append((best.indices == batch.cond[model.target]).cpu())
    p, hit = torch.cat(sure).double().numpy(), torch.cat(right).numpy()
    draw = np.random.default_rng(mix_seed(seed, 11))
    again = [draw.integers(0, len(p), len(p)) for _ in range(REPEATS)]
    value, error = reliability_error(p, hit), np.std([reliability_error(p[i], hit[i])
                                                      for i in again])  # fmt: skip
    chance = [reliability_error(p, draw.random(len(p)) < p) for _ in range(REPEATS)]
    return [
        Measurement(
            "reliability_error", value, higher_is_better=False, n=len(p), protocol=protocol,
            low=max(value - 1.96 * float(error), 0.0), high=value + 1.96 * float(error),
            floor=float(np.mean(chance)), interval=f"95 %, bootstrap, {REPEATS} repeats",
            note=f"of {model.target}, {BINS} bins",
        )
    ]  # fmt: skip


def reliability_error(p: np.ndarray, hit: np.ndarray) -> float:
    """Of probabilities (N,) and whether each came true (N,)."""
    order = np.argsort(p, kind="stable")
    bins = zip(np.array_split(p[order], BINS), np.array_split(hit[order], BINS), strict=True)
    return float(sum(abs(share.sum() - sure.sum()) for sure, share in bins)) / len(p)
