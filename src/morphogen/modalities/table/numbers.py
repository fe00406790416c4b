"""A number's column, found from its training rows: its scale, and the values of its tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from morphogen.modalities.table.cells import decimals_of
from morphogen.modalities.table.columns import MOST_DECIMALS, Number

MOST_EXACT, ROWS_EACH = 128, 4  # values with a token each; rows that each must have on average
MOST_BINS, ROWS_OF_BIN = 64, 25  # bins of a number; rows that each should have
FEWEST_BINS = 4
MOST_VALUES = 2048  # of a number that is told in bins
NUM_KNOTS = 33  # quantiles that a number is straightened by
MOST_LEVELS = 256


def number_column(
    name: str,
    numbers: Sequence[float],
    counts: Counter[float] | None,
    low: float,
    high: float,
    **known: Any,
) -> Number:
    """A number's column from (a sample of) the training rows; `counts` of every value where they
    are few enough to be counted."""
    sample = np.sort(np.asarray(numbers, np.float64))
    decimals = max(map(decimals_of, sample[:: max(len(sample) // 5000, 1)]))
    steps = (high - low) * 10.0 ** min(decimals, MOST_DECIMALS)
    levels = round(steps) + 1 if steps < MOST_LEVELS - 0.5 else None
    quantiles = np.quantile(sample, np.linspace(0, 1, NUM_KNOTS), method="lower")
    knots = np.unique([low, *quantiles, high]).tolist()
    values, starts = _told(sample, None if counts is None else sorted(counts))
    return Number(
        name, low=low, high=high, decimals=decimals if decimals <= MOST_DECIMALS else None,
        levels=levels, knots=knots, values=values.tolist(), starts=starts.tolist(), **known,
    )  # fmt: skip


def _told(sample: np.ndarray, every: list[float] | None) -> tuple[np.ndarray, np.ndarray]:
    """The values that tokens stand for, and where bins of them start: of a sorted sample, and
    `every` value that there is, where they are few enough to be known."""
    values = np.unique(sample) if every is None else np.array(every, np.float64)
    few = len(values) * ROWS_EACH <= len(sample) or len(values) <= FEWEST_BINS
    if few and len(values) <= MOST_EXACT:
        return values, np.array([], np.int64)
    if len(values) > MOST_VALUES:
        first = np.searchsorted(sample, _evenly(sample, MOST_VALUES))
        middle = (first + np.append(first[1:], len(sample)) - 1) // 2
        values = np.unique([sample[0], *sample[middle], sample[-1]])
    edges = _evenly(sample, min(max(len(sample) // ROWS_OF_BIN, FEWEST_BINS), MOST_BINS))
    starts = np.searchsorted(values, edges, side="right") - 1
    return values, np.union1d(starts, np.arange(0, len(values), MOST_BINS))


def _evenly(sample: np.ndarray, num: int) -> np.ndarray:
    """The values that `num` parts of a sorted sample, of as many each, begin with; each once."""
    return np.unique(sample[np.arange(num) * len(sample) // num])
