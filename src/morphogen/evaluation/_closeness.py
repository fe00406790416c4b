r"""Tests of whether generated items are closer to training items than they should be.

    share         are generated items nearer to training or to held-out items?
    membership    does it show what was trained on, that a generated item lies near?
    c_t           Meehan, Chaudhuri & Dasgupta 2020, the C_T statistic
    authenticity  Alaa et al. 2022
    labels        of the training and held-out items that generated items lie next to, are too
                  many training items?
    tail          do more generated than held-out items have a training item far nearer than the
                  room around it?
    replicas      are single training items hit, far more closely than any held-out item hits one?

The ratio of an item is d_1 / d_k, its distance to its nearest training item over that to its k-th
nearest: near 0 for a copy, near 1 for an item among strangers. Where data fill D dimensions evenly
P(ratio < r) is about (k - 1) r^D whatever their density, and blurred items lie nearer to 1.

Legend: G generated items, H held-out items, k neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from morphogen.evaluation.intervals import binomial_interval

PARTS = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)  # the most suspicious parts that labels are counted in
RARE = 0.02  # the part of the held-out items that sets what is rare
FEWEST_IN_CELL = 20  # generated and held-out items, for a cell to count
FEWEST_REPLICAS = 3


@dataclass(frozen=True)
class Found:
    """A p-value with the counts that it comes from."""

    p_value: float
    counts: Mapping[str, float]


def ratios(distance: Tensor, floor: float) -> Tensor:
    """d_1 / d_k (N,) of distances (N, k), nearest first; 0 / 0 is 0."""
    return distance[:, 0] / (distance[:, -1] + floor).clamp(min=1e-30)


# -- tests ---------------------------------------------------------------------------------------


def labels(
    order: Tensor, nearest: Tensor, is_train: Tensor, pool: tuple[int, int], sizes: Sequence[int]
) -> Found:
    """Are too many of the items next to generated items training items?

    An honest model cannot know which of N + M real items were held out. So among the distinct items
    that generated items lie nearest to, the training ones are hypergeometric: whatever the model's
    law, its blur and its modes. Looked at in several parts of the generated items (G,), most
    suspicious (by a number that knows no labels) first, with a Bonferroni correction.

    `nearest` (G,) numbers the real items, `is_train` (G,) is their split, `pool` counts both.
    """
    from scipy.stats import hypergeom  # type: ignore[import-untyped]

    total, best = sum(pool), Found(1.0, {"items": 0})
    for size in sizes:
        some = order[:size]
        distinct = torch.unique(2 * nearest[some] + is_train[some].long())
        hits = int((distinct % 2).sum())
        p = float(hypergeom.sf(hits - 1, total, pool[0], len(distinct)))
        if p < best.p_value or best.counts["items"] == 0:
            expected = round(len(distinct) * pool[0] / total, 2)
            counts = {"items": size, "real": len(distinct), "train": hits, "expected": expected}
            best = Found(p, counts)
    return Found(min(1.0, best.p_value * len(sizes)), best.counts)


def tail(generated: Tensor, held_out: Tensor) -> Found:
    """Do too many generated items have a smaller ratio than the j smallest held-out ones?

    If both have the same law, x or more of G lie below the j-th of H with the probability that
    among the first x + j - 1 of all, x or more are generated: a hypergeometric tail. j = 1, 2, 5,
    10, ... up to 2 % of H, with a Bonferroni correction.
    """
    from scipy.stats import hypergeom  # type: ignore[import-untyped]

    most = max(1, int(RARE * len(held_out)))
    ranks = [j for j in (1, 2, 5, 10, 20, 50, 100, 200) if j <= most]
    smallest, num = held_out.sort().values, len(generated)
    best = Found(1.0, {"below": 0, "rank": 1, "expected": 0.0})
    for rank in ranks:
        below = int((generated < smallest[rank - 1]).sum())
        total = num + len(held_out)
        p = float(hypergeom.sf(below - 1, total, num, below + rank - 1)) if below else 1.0
        if p < best.p_value:
            expected = round(rank * num / (len(held_out) + 1), 2)
            best = Found(p, {"below": below, "rank": rank, "expected": expected})
    return Found(min(1.0, best.p_value * len(ranks)), best.counts)


def replicas(ratio: Tensor, nearest: Tensor, against_held_out: Tensor, held_out: Tensor) -> Found:
    """How many training items are hit at less than half the smallest ratio of a held-out item?

    `ratio` (G,) and `nearest` (G,) to training items, `against_held_out` (G,) the ratio to held-out
    items in their place. p = 1 when fewer than three are hit or a held-out item is hit too. Each
    training item counts once, however often it is replayed.
    """
    from scipy.stats import hypergeom  # type: ignore[import-untyped]

    limit = float(held_out.min()) / 2
    hit, real = len(torch.unique(nearest[ratio < limit])), len(torch.unique(nearest))
    counts = {"training items": hit, "generated items": int((ratio < limit).sum())}
    if hit < FEWEST_REPLICAS or bool((against_held_out < limit).any()):
        return Found(1.0, counts)
    return Found(float(hypergeom.sf(hit - 1, real + len(held_out), real, hit)), counts)


# -- scores that others report -------------------------------------------------------------------


def share(to_train: Tensor, to_held_out: Tensor, nearest: Tensor) -> tuple[float, float, float]:
    """The share of items (G,) nearer to a training than to a held-out item of equally many, ties
    counting half, with its interval.

    Items that share their nearest real item (`nearest`) fall together: the binomial interval is
    that of G^2 / sum of squares of the counts, the number of items that fall apart.
    """
    nearer = (to_train < to_held_out).double() + 0.5 * (to_train == to_held_out).double()
    counts = torch.unique(nearest, return_counts=True)[1].double()
    apart = float(counts.sum().square() / counts.square().sum())
    value = float(nearer.mean())
    return value, *binomial_interval(value * apart, apart)


def membership(train: Tensor, held_out: Tensor) -> tuple[float, float, float]:
    """The area under the ROC of an attack that takes an item for a training item the nearer a
    generated one is to it (Chen et al. 2020, GAN-Leaks), with its interval; 0.5 is chance.

    `train` (N,) and `held_out` (M,) are distances to the nearest generated item.
    """
    from scipy.stats import rankdata  # type: ignore[import-untyped]

    n, m = len(train), len(held_out)
    ranks = torch.from_numpy(rankdata(torch.cat([held_out, train]).double().numpy()))
    value = 1 - float(ranks[m:].sum() - n * (n + 1) / 2) / (n * m)
    error = 1.96 * math.sqrt((n + m + 1) / (12 * n * m))  # of Mann & Whitney's count, by chance
    return value, value - error, value + error


def c_t(
    generated: Tensor, held_out: Tensor, cells: Tensor, held_out_cells: Tensor
) -> tuple[float, float, int]:
    """C_T, its standard error for a model that does not copy, and the number of cells.

    `generated` (G,) and `held_out` (H,) are distances to the nearest training item. In every cell
    of a partition the Mann-Whitney count of pairs in which the generated item is the farther one is
    made a z score; C_T is their mean, weighted by the held-out items in the cells. Cells with too
    few of either are left out, as in the paper; with none left, all items are one cell.
    """
    from scipy.stats import rankdata

    def score(a: Tensor, b: Tensor) -> float:
        both = torch.cat([a, b]).double().numpy()
        ranks, (n, m) = rankdata(both), (len(a), len(b))
        count = ranks[:n].sum() - n * (n + 1) / 2
        ties = np.unique(both, return_counts=True)[1].astype(np.float64)
        untied = n + m + 1 - float((ties**3 - ties).sum()) / ((n + m) * (n + m - 1))
        spread = math.sqrt(max(n * m / 12 * untied, 0.0))
        return float(count - n * m / 2) / spread if spread > 0 else 0.0

    found = []
    for cell in torch.unique(held_out_cells):
        a, b = generated[cells == cell], held_out[held_out_cells == cell]
        if min(len(a), len(b)) >= FEWEST_IN_CELL:
            found.append((len(b), score(a, b)))
    found = found or [(len(held_out), score(generated, held_out))]
    total = sum(weight for weight, _ in found)
    value = sum(weight * z for weight, z in found) / total
    return value, math.sqrt(sum(weight**2 for weight, _ in found)) / total, len(found)


def authenticity(distance: Tensor, spacing: Tensor) -> tuple[float, float, float]:
    """The share of items (G,) farther from their nearest training item than that one is from its
    own nearest neighbour (`spacing`, G), with its binomial interval."""
    value = float((distance > spacing).double().mean())
    return value, *binomial_interval(value * len(distance), len(distance))
