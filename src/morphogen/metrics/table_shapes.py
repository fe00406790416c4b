r"""How far single columns, and pairs of them, are from real ones: as SDMetrics has them.

    column_shapes   the mean over columns of 1 - sup |F - G| for numbers and dates (of the
                    Kolmogorov-Smirnov statistic), 1 - 1/2 sum |p - q| for categories
    pair_trends     the mean over pairs of columns of 1 - |r - s| / 2 for two numbers (of Pearson's
                    correlations), 1 - 1/2 sum |p - q| over the joint cells else, numbers cut into
                    ten bins of one width over the real ones' range

1 is best of either. Missing categories are a category; numbers are compared where there are any.
The quality report of SDMetrics (DataCebo 2023) is their mean.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from morphogen.core.errors import MeasurementError
from morphogen.core.metric import scores
from morphogen.metrics._rows import Column, Row, Rows, columns

BINS = 10


@scores(ratios=False, column_shapes=True, pair_trends=True)
def table_shapes(rows: Rows, *, generator: torch.Generator | None = None) -> Mapping[str, float]:
    """Likeness of columns, and of how two go together, to real ones; 1 is best."""
    generated, real = rows.values()
    shapes, trends = compared(generated, real)
    if not shapes:
        raise MeasurementError("the rows have no columns in common", found=f"{len(real)} rows")
    found = {"column_shapes": float(np.mean(list(shapes.values())))}
    if trends:
        found["pair_trends"] = float(np.mean(list(trends.values())))
    return found


def compared(
    generated: Sequence[Row], real: Sequence[Row]
) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """The likeness of each column, and of each pair of columns."""
    both = columns(generated, real)
    shapes = {name: shape(column) for name, column in both.items()}
    cut = {name: _cut(column) for name, column in both.items()}
    trends = {}
    for a, b in itertools.combinations(both, 2):
        if both[a].is_number and both[b].is_number:
            trends[a, b] = _correlated(both[a], both[b])
        else:
            trends[a, b] = _joint(cut[a], cut[b])
    return shapes, {pair: value for pair, value in trends.items() if not np.isnan(value)}


def shape(column: Column) -> float:
    """The likeness of one column: the complement of a distance in [0, 1]."""
    y, x = column.values
    if not column.is_number:
        return 1 - _variation(*(np.bincount(each, minlength=column.size) for each in (y, x)))
    y, x = (np.sort(each[~np.isnan(each)]) for each in (y, x))
    if not len(y) or not len(x):
        return 0.0
    points = np.concatenate([y, x])
    below = [np.searchsorted(each, points, side="right") / len(each) for each in (y, x)]
    return 1 - float(np.abs(below[0] - below[1]).max())


def _variation(p: np.ndarray, q: np.ndarray) -> float:
    return 0.5 * float(np.abs(p / p.sum() - q / q.sum()).sum())


def _cut(column: Column) -> tuple[list[np.ndarray], int]:
    """Categories as they are; numbers by bins of the real ones' range, missing ones apart."""
    if not column.is_number:
        return column.values, column.size
    real = column.values[1]
    edges = np.histogram_bin_edges(real[~np.isnan(real)], BINS)
    return [np.digitize(each, edges) for each in column.values], BINS + 2  # NaN: the last


def _correlated(a: Column, b: Column) -> float:
    """1 - |r - s| / 2; NaN where a column is constant, of which no correlation is known."""
    found = []
    for pair in zip(a.values, b.values, strict=True):
        known = ~np.isnan(pair[0]) & ~np.isnan(pair[1])
        first, second = (each[known] for each in pair)
        if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
            return float("nan")
        found.append(float(np.corrcoef(first, second)[0, 1]))
    return 1 - abs(found[0] - found[1]) / 2


def _joint(a: tuple[list[np.ndarray], int], b: tuple[list[np.ndarray], int]) -> float:
    """1 - the total variation of the joint cells of two columns of categories."""
    (first, _), (second, width) = a, b
    cells = [i * width + j for i, j in zip(first, second, strict=True)]
    places = np.unique(np.concatenate(cells), return_inverse=True)[1]
    counts = [np.bincount(each, minlength=places.max() + 1)
              for each in np.split(places, [len(cells[0])])]  # fmt: skip
    return 1 - _variation(*counts)
