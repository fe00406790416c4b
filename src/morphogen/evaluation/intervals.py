"""Intervals of shares and means over items, for whole evaluations and group by group."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LEVEL = 0.95  # of an interval that stands alone


def binomial_interval(hits: float, num: float, level: float = LEVEL) -> tuple[float, float]:
    """Clopper & Pearson's interval for a share."""
    from scipy.stats import beta  # type: ignore[import-untyped]

    rest = (1 - level) / 2
    low = 0.0 if hits <= 0 else float(beta.ppf(rest, hits, num - hits + 1))
    high = 1.0 if hits >= num else float(beta.ppf(1 - rest, hits + 1, num - hits))
    return low, high


def mean_interval(
    values: npt.NDArray[np.float64], level: float = LEVEL, shared_error: float = 0.0
) -> tuple[float, float, str]:
    """The interval of a mean and by which method: exact where all values are 0 or 1, else by
    Student's t; a single value has none. `shared_error` is a standard error that they all have."""
    import numpy as np
    from scipy.stats import norm, t

    num, mean = len(values), float(values.mean())
    if np.isin(values, (0.0, 1.0)).all():
        return *binomial_interval(float(values.sum()), num, level), "Clopper-Pearson"
    if num < 2:
        return -math.inf, math.inf, "Student's t"
    quantile = float(t.ppf((1 + level) / 2, num - 1))
    error = quantile * float(values.std(ddof=1)) / math.sqrt(num)
    error = math.hypot(error, float(norm.ppf((1 + level) / 2)) * shared_error)
    return mean - error, mean + error, "Student's t"
