r"""Train on generated rows, test on real ones (TSTR): is what is drawn as good to learn from?

    utility    the mean, over the columns that trees can tell from the others at all, of how well
               gradient-boosted trees that have seen generated rows only tell held-out ones: the
               area under the ROC of categories (of each against the rest, by their shares), and
               for numbers the share of the variance that is told, not below 0

The floor is the same with real training rows in place of generated ones. Of all columns the first
`MOST_TARGETS` of few categories are asked for, else numbers. Esteban, Hyland & Ratsch 2017 (TSTR);
the judge is scikit-learn's HistGradientBoosting (Ke et al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from morphogen.core.errors import MeasurementError
from morphogen.core.metric import scores
from morphogen.metrics._rows import Column, Row, Rows, columns

MOST_TARGETS = 2
MOST_CLASSES = 12  # of a target: each costs trees of its own
RARE = 10  # rows that a class needs among those that are learned from


def area_error(value: float, n: int) -> float:
    """About the standard error of an area under the ROC over n items (Hanley & McNeil 1982, for
    classes of one size)."""
    return math.sqrt(max(value * (1 - value), 1 / n) * 2 / n)


@scores(standard_error=area_error, ratios=False, utility=True)
def trained_on_generated(
    rows: Rows, *, generator: torch.Generator | None = None
) -> Mapping[str, float]:
    """How well trees that learned generated rows tell cells of real ones; higher is better."""
    generated, real = rows.values()
    both = columns(generated, real)
    found = [told(both, target) for target in _targets(both)]
    known = [value for value in found if value is not None]
    if not known:
        raise MeasurementError(
            "no column can be told from others", found=f"{len(both)} columns",
            expected="two columns, one of them of several categories or numbers",
        )  # fmt: skip
    return {"utility": float(np.mean(known))}


def tstr(train: Sequence[Row], test: Sequence[Row], target: str) -> float | None:
    """How well trees that learned the one rows tell a column of the others; None where there is
    nothing to learn."""
    return told(columns(train, test), target)


def told(both: Mapping[str, Column], target: str) -> float | None:
    """The same, of columns of the rows to learn and of those to tell."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    inputs = [column for name, column in both.items() if name != target]
    x = [np.stack([column.values[i] for column in inputs], 1) for i in (0, 1)]
    y = both[target].values
    of_categories = [not column.is_number and column.size <= 255 for column in inputs]
    how: dict[str, Any] = {"categorical_features": of_categories, "random_state": 0}
    if both[target].is_number:
        known = [~np.isnan(each) for each in y]
        judge = HistGradientBoostingRegressor(**how).fit(x[0][known[0]], y[0][known[0]])
        return max(float(judge.score(x[1][known[1]], y[1][known[1]])), 0.0)
    learned = np.isin(y[0], np.flatnonzero(np.bincount(y[0]) >= RARE))
    if len(np.unique(y[0][learned])) < 2:
        return None
    judge = HistGradientBoostingClassifier(**how).fit(x[0][learned], y[0][learned])
    return area(judge.predict_proba(x[1]), y[1], judge.classes_)


def area(probability: np.ndarray, y: np.ndarray, classes: np.ndarray) -> float | None:
    """The area under the ROC of each class (N, V) against the rest, weighted by their shares; of
    classes that there are in y (N,), and that are not all."""
    from sklearn.metrics import roc_auc_score

    shares = np.array([float((y == each).mean()) for each in classes])
    there = np.flatnonzero((shares > 0) & (shares < 1))
    if not len(there):
        return None
    areas = [roc_auc_score(y == classes[i], probability[:, i]) for i in there]
    return float(np.average(areas, weights=shares[there]))


def _targets(both: Mapping[str, Column]) -> list[str]:
    """Columns of few categories that come often, the last first; else numbers."""
    few = [n for n, c in both.items() if not c.is_number and 2 <= c.size <= MOST_CLASSES]
    numbers = [name for name, column in both.items() if column.is_number]
    return [*reversed(few), *reversed(numbers)][:MOST_TARGETS]
