r"""How stable is the order of a leaderboard: would other seeds have given the same?

The seeds are halved, each half ranks the families by its own means, and Kendall's tau says how far
the two orders agree:

    tau = (pairs in the same order - pairs in the other) / pairs        1 the same, -1 reversed

so that doubling --seeds compares the order with that of a second set of as many. No way to halve
them is better than another: reported are the mean over all (at most MOST_SPLITS), and the least and
the largest. p is how often tau is as large when families do not differ, by exchanging their scores
at random within every seed (a permutation test).

Legend: F families, S seeds, N ways to halve the seeds, P pairs of families.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_SPLITS = 200
NUM_EXCHANGES = 999
MOST_NAMED = 3  # pairs that changed places

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Stability:
    """How far the orders by one and by the other half of the seeds agree."""

    tau: float  # mean over the ways to halve the seeds
    low: float
    high: float
    p: float
    num_families: int  # those that have all seeds
    num_seeds: int
    num_splits: int
    changed: Mapping[str, float]  # "gan and vae" -> how often they changed places, most often first

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def text(self) -> str:
        """For a person."""
        ways = "the one way to halve them"
        if self.num_splits > 1:
            ways = f"{self.low:.2f} to {self.high:.2f} over {self.num_splits} ways to halve them"
        said = (
            f"How stable the order is: halves of the {self.num_seeds} seeds agree on the "
            f"{self.num_families} families with Kendall's tau {self.tau:.2f} ({ways}; 1 is the "
            f"same order, 0 chance; p {self.p:.2g})."
        )
        if not self.changed:
            return f"{said} No two families changed places."
        pairs = [f"{n} ({s:.0%} of the ways)" for n, s in list(self.changed.items())[:MOST_NAMED]]
        more = f" and {len(self.changed) - len(pairs)} more" * (len(self.changed) > len(pairs))
        return f"{said} Places changed between {', '.join(pairs)}{more}: more --seeds would tell."


def stability(values: Mapping[str, Mapping[int, float]]) -> Stability | None:
    """Of an order by the mean of `values` (family -> seed -> score). Families that lack a seed are
    left out; None where fewer than two families or two seeds are left."""
    seeds = sorted({seed for own in values.values() for seed in own})
    names = [name for name, own in values.items() if len(own) == len(seeds)]
    if len(names) < 2 or len(seeds) < 2:
        return None
    scores = np.array([[values[name][seed] for seed in seeds] for name in names])  # (F, S)
    halves = _halves(len(seeds))
    same = _agreement(scores, halves)
    taus = same.mean(1)
    draw = np.random.default_rng(0)
    by_chance = [
        _agreement(draw.permuted(scores, axis=0), halves).mean() for _ in range(NUM_EXCHANGES)
    ]
    as_large = sum(tau >= taus.mean() - 1e-9 for tau in by_chance)
    pairs = [" and ".join(sorted(pair)) for pair in itertools.combinations(names, 2)]
    shares = dict(zip(pairs, (same < 0).mean(0).tolist(), strict=True))
    return Stability(
        tau=float(taus.mean()),
        low=float(taus.min()),
        high=float(taus.max()),
        p=(1 + as_large) / (1 + NUM_EXCHANGES),
        num_families=len(names),
        num_seeds=len(seeds),
        num_splits=len(halves),
        changed={n: s for n, s in sorted(shares.items(), key=lambda each: -each[1]) if s > 0},
    )


def _agreement(scores: Array, halves: NDArray[np.bool_]) -> Array:
    """(F, S), (N, S) -> (N, P): 1 where two families stand in the same order in both halves."""
    signs = []
    for half in (halves, ~halves):
        means = scores @ half.T / half.sum(1)  # (F, N)
        first, second = np.triu_indices(len(scores), 1)
        signs.append(np.sign(means[first] - means[second]).T)  # (N, P)
    agreement: Array = signs[0] * signs[1]
    return agreement


def _halves(num_seeds: int) -> NDArray[np.bool_]:
    """The seeds of one half, in every way or in at most MOST_SPLITS of them: (N, S)."""
    size, draw = num_seeds // 2, np.random.default_rng(0)
    if math.comb(num_seeds, size) > 2 * MOST_SPLITS:
        chosen = [draw.permutation(num_seeds)[:size] for _ in range(MOST_SPLITS)]
    else:
        chosen = [np.array(each) for each in itertools.combinations(range(num_seeds), size)]
    if num_seeds % 2 == 0:  # a half and the other half are the same way
        chosen = [half for half in chosen if 0 in half]
    halves = np.zeros((len(chosen), num_seeds), dtype=bool)
    for row, half in zip(halves, chosen, strict=True):
        row[half] = True
    return halves
