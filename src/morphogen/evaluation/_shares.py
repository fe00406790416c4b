r"""Shares of groups among items whose group a judge has to say, corrected for the judge's mistakes.

    C_ij = P(judged j | is i)      the judge's confusion, from held-out items of known groups
    q    = C^T pi                  what is seen of items with shares pi
    pi   = C^-T q                  what the shares are; entries below 0 are set to 0

With two groups it is (q - false positives) / (true positives - false positives) (Rogan & Gladen
1978); with any number, the estimator of Saerens et al. 2002 and Lipton et al. 2018 for hard
decisions, which are right even where the judge's probabilities are not calibrated. It takes for
granted that a generated item of a group is judged as a real one of that group is.

Intervals are quantiles over draws of all that was counted:

    q ~ Dirichlet(m + 1/2),    C_i ~ Dirichlet(N_i + prior_i),    p ~ Dirichlet(c + 1/2)

m counts generated items by judged group, N_i held-out items of group i, c training items. prior_i
puts 1/2 on being right and 1/2 on all mistakes together (Jeffreys' for the judge's accuracy), so
that the interval of a group with few held-out items is wide.

Legend: K groups, R draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]  # the group of each item

DRAWS = 4000
FEWEST_EXPECTED = 5  # of a judged group, for it to be a cell of the chi-square test of its own


@dataclass(frozen=True)
class Shares:
    """Shares among generated items, beside those in the data."""

    value: Array  # (K,) of the generated items, corrected
    draws: Array  # (R, K)
    ratio: Array  # (K,) over the share in the data; NaN where the data has none
    ratio_draws: Array  # (R, K)
    distance: float  # total variation between the two: half the sum of absolute differences
    distance_error: float
    floor: float  # the distance of held-out items from the training items, by the same judge
    chi_square: float
    freedom: int
    p_value: float  # that items drawn with the data's shares would be judged as far off


def confusion(actual: Groups, judged: Groups, num: int) -> Array:
    """Counts (K, K) of items that are of the one group and were judged to be of the other."""
    counts = np.bincount(actual * num + judged, minlength=num * num)
    return counts.reshape(num, num).astype(np.float64)


def skill(counts: Array) -> float:
    """How much of the way from guessing to never failing the judge has come, groups alike."""
    seen = counts.sum(1) > 0
    right = float((counts.diagonal()[seen] / counts.sum(1)[seen]).mean())
    return (right - 1 / len(counts)) / (1 - 1 / len(counts))


def corrected(seen: Array, behaviour: Array) -> Array:
    """Shares (..., K) that a judge with P(judged j | is i) = `behaviour` (..., K, K) sees as
    `seen` (..., K)."""
    shares = np.linalg.solve(np.swapaxes(behaviour, -1, -2), seen[..., None])[..., 0]
    positive = np.clip(shares, 0, None)
    return positive / positive.sum(-1, keepdims=True)


def compare_shares(
    generated: Groups, actual: Groups, judged: Groups, trained_on: Groups, *, num: int, seed: int
) -> Shares:
    """Shares among items judged as `generated`, against those among the items `trained_on`.

    `actual` and `judged` are what the held-out items are, and what the judge took them for.
    """
    random = np.random.default_rng(seed)
    seen, known = (np.bincount(x, minlength=num).astype(float) for x in (generated, trained_on))
    rows = _rows(confusion(actual, judged, num))
    behaviour, expected = rows / rows.sum(1, keepdims=True), known / known.sum()
    value = corrected(seen / seen.sum(), behaviour)

    behaviours = _dirichlet(rows, random)  # (R, K, K)
    draws = corrected(_dirichlet(seen + 0.5, random), behaviours)
    expectations = _dirichlet(known + 0.5, random)
    in_data = np.where(known > 0, expected, np.nan)

    distances = np.abs(draws - expectations).sum(-1) / 2
    statistic, freedom, p_value = _chi_square(
        seen, expected @ behaviour, np.einsum("rk,rkj->rj", expectations, behaviours)
    )
    return Shares(
        value,
        draws,
        value / in_data,
        draws / np.where(known > 0, expectations, np.nan),
        float(np.abs(value - expected).sum() / 2),
        float(distances.std()),
        float(np.abs(_across(actual, judged, num) - expected).sum() / 2),
        statistic,
        freedom,
        p_value,
    )


def _rows(counts: Array) -> Array:
    """The parameters (K, K) of the laws of the rows of C."""
    num = len(counts)
    return counts + np.where(np.eye(num) > 0, 0.5, 0.5 / (num - 1))


def _dirichlet(parameters: Array, random: np.random.Generator) -> Array:
    """R draws (R, ..., K)."""
    drawn = random.standard_gamma(parameters, size=(DRAWS, *parameters.shape))
    drawn /= drawn.sum(-1, keepdims=True)
    return drawn


def _across(actual: Groups, judged: Groups, num: int) -> Array:
    """Shares of the held-out items, each half corrected by the judge's mistakes on the other: with
    those on the same items the correction would undo them to the last one."""
    half = len(actual) // 2
    sides = (slice(None, half), slice(half, None))
    total = np.zeros(num)
    for here, there in zip(sides, reversed(sides), strict=True):
        rows = _rows(confusion(actual[there], judged[there], num))
        seen = np.bincount(judged[here], minlength=num)
        total += corrected(seen / seen.sum(), rows / rows.sum(1, keepdims=True)) * seen.sum()
    return total / total.sum()


def _chi_square(seen: Array, expected: Array, draws: Array) -> tuple[float, int, float]:
    """Pearson's test of counts (K,) against expected shares (K,) that are themselves estimates.

    (q - e)^T S^-1 (q - e) with S = (diag(e) - e e^T) / n + Cov(e) over the draws (R, K): Pearson's
    statistic where e is known. Groups that are hardly expected are one cell together.
    """
    from scipy.stats import chi2  # type: ignore[import-untyped]

    num = seen.sum()
    rare = num * expected < FEWEST_EXPECTED
    cells = np.eye(len(seen))[:, ~rare]  # (K, cells)
    if rare.any():
        cells = np.concatenate([cells, rare[:, None]], 1)
    if cells.shape[1] < 2:
        return 0.0, 0, 1.0
    cells = cells[:, 1:]  # the shares sum to 1: the first cell says nothing new
    e = expected @ cells
    of_expected = np.atleast_2d(np.cov(draws @ cells, rowvar=False))
    spread = (np.diag(e) - np.outer(e, e)) / num + of_expected
    off = seen @ cells / num - e
    statistic, freedom = float(off @ np.linalg.solve(spread, off)), len(e)
    return statistic, freedom, float(chi2.sf(statistic, freedom))


def interval(draws: Array, level: float) -> tuple[Array, Array]:
    """The ends (K,) of the intervals that hold `level` of the draws (R, K)."""
    rest = (1 - level) / 2
    low, high = np.quantile(draws, [rest, 1 - rest], axis=0)
    return low, high
