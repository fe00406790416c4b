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

from morphogen.core.measurement import Measurement
from morphogen.core.random import mix_seed
from morphogen.evaluation._items import Predicted

BINS, REPEATS = 15, 200
FEWEST = 2 * BINS  # items


def calibration(told: Predicted | None, protocol: dict[str, Any], seed: int) -> list[Measurement]:
    """The error of a classifier's probabilities on held-out items; none of other models."""
    if told is None or not told.is_label or len(told.actual) < FEWEST:
        return []
    best = told.outputs.max(1)
    p, hit = best.values.double().numpy(), (best.indices == told.actual).numpy()
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
            note=f"of {told.target}, {BINS} bins",
        )
    ]  # fmt: skip


def reliability_error(p: np.ndarray, hit: np.ndarray) -> float:
    """Of probabilities (N,) and whether each came true (N,)."""
    order = np.argsort(p, kind="stable")
    bins = zip(np.array_split(p[order], BINS), np.array_split(hit[order], BINS), strict=True)
    return float(sum(abs(share.sum() - sure.sum()) for sure, share in bins)) / len(p)
