r"""What runs over several seeds say of families: means, intervals, and who can be told from whom.

Scores that are all positive (ratios, distances) are compared as logarithms, so that a mean is a
geometric one and a gap is how many times as large. Of k seeds a family's interval is

    mean -+ t_{k-1} s / sqrt(k)

Runs of one seed are measured against the same items and share their luck, so two families differ
by their gap seed by seed (a paired t-test). Few seeds hardly know their own spread, s: with two,
t is 12.7, and twenty times as far would be called a tie. So below ENOUGH seeds the spread of all
families is asked too, by what is left of the table of families and seeds after both have been
taken out (analysis of variance of a block design), and who either test tells apart at half of the
level (Bonferroni) is apart.

Legend: F families, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

LEVEL = 0.95
ENOUGH = 4  # seeds whose own spread can be relied on

Scores = Mapping[str, Mapping[int, float]]  # family -> seed -> score


@dataclass(frozen=True)
class Gap:
    """How far one family is above another, seed by seed."""

    least: float  # over seeds: times as large where all scores are positive, else the difference
    largest: float
    num_seeds: int  # that they share
    times: bool
    apart: bool  # beyond luck

    @property
    def one_way(self) -> bool:
        """Whether every seed has them in the same order."""
        equal = 1.0 if self.times else 0.0
        return self.least > equal or self.largest < equal

    def __str__(self) -> str:
        ends = (self.least, self.largest)
        if self.times:  # as people say it: "2 to 3 times", whichever is the larger
            ends = ends if self.largest > 1 else (1 / self.largest, 1 / self.least)
        low, high = (f"{abs(end):.3g}" for end in sorted(ends, key=abs))
        return f"{low} to {high}{' times' if self.times else ''}"


class Seeds:
    """The scores of a comparison."""

    def __init__(self, scores: Scores) -> None:
        self.log = all(value > 0 for own in scores.values() for value in own.values())
        scale = math.log if self.log else float
        self.scaled = {  # as they are compared
            family: {seed: scale(own[seed]) for seed in sorted(own)}
            for family, own in scores.items()
        }
        whole = {seed for own in scores.values() for seed in own}
        self.spread, self.freedom = _left_over(
            [list(own.values()) for own in self.scaled.values() if own.keys() == whole]
        )

    def mean(self, family: str) -> float:
        """Over a family's seeds."""
        return self._told(fmean(self.scaled[family].values()))

    def interval(self, family: str) -> tuple[float, float]:
        """Of the mean of a family that has several seeds."""
        own = list(self.scaled[family].values())
        half = _half(own, LEVEL)
        return self._told(fmean(own) - half), self._told(fmean(own) + half)

    def gap(self, family: str, other: str) -> Gap | None:
        """How far `family` is above `other`; None where they share fewer than two seeds."""
        own, theirs = self.scaled[family], self.scaled[other]
        gaps = [own[seed] - theirs[seed] for seed in sorted(own.keys() & theirs.keys())]
        if len(gaps) < 2:
            return None
        if len(gaps) >= ENOUGH or not self.freedom:
            bound = _half(gaps, LEVEL)
        else:
            level = (1 + LEVEL) / 2  # of each of two tests
            pooled = _quantile(level, self.freedom) * self.spread * math.sqrt(2 / len(gaps))
            bound = min(_half(gaps, level), pooled)
        apart = abs(fmean(gaps)) > bound
        ends = self._told(min(gaps)), self._told(max(gaps))
        return Gap(*ends, len(gaps), times=self.log, apart=apart)

    def _told(self, value: float) -> float:
        return math.exp(min(value, 700.0)) if self.log else value  # e^710 is no float


def _left_over(rows: list[list[float]]) -> tuple[float, int]:
    """(F, S) -> the standard deviation of what neither family nor seed explains, and its degrees of
    freedom; none where two families are too few to say more than their own gap does."""
    if len(rows) < 3 or len(rows[0]) < 2:
        return 0.0, 0
    table = np.array(rows)  # (F, S)
    left = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return math.sqrt(float((left**2).sum()) / freedom), freedom


def _half(values: list[float], level: float) -> float:
    """Half of the interval of a mean."""
    return _quantile(level, len(values) - 1) * stdev(values) / math.sqrt(len(values))


def _quantile(level: float, freedom: int) -> float:
    """Of Student's t, for an interval of both sides."""
    from scipy.stats import t  # type: ignore[import-untyped]

    return float(t.ppf((1 + level) / 2, freedom))
