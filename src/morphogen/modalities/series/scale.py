"""The scale of series: each column in its own standard deviations, with tails that do not end.

    z = (v - mean) / deviation
    x = z / 8,                                             |z| <= 6
        sign(z) (3 / 4 + log(1 + 2 (|z| - 6)) / 16),       beyond

whose slope is continuous: x reaches 1 at 33 deviations and grows slowly from there, so that what is
far out is still told from what is farther out, and comes back as it was. The tail begins where
hardly anything is: in it an error of what is drawn grows with e^(16 x) / e^12.

Legend: C columns, N steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from morphogen.core.errors import DataError, did_you_mean
from morphogen.modalities.series.window import Window

STRAIGHT, WIDTH = 6.0, 8.0  # deviations up to which x is in proportion; of them in 1
BEND = 2.0  # of the tail
MOST = 1.25  # of x, that is read: what a model draws may lie anywhere
LEAST_DEVIATION = 1e-6  # of a column that never varies, of its size
TOGETHER = 512  # windows whose moments are summed at once


Moments = Mapping[str, tuple[float, float]]  # by column, its mean and deviation


class Scale:
    """Mean and deviation of every column of every series, from the training items."""

    def __init__(self, known: Mapping[str, Moments] | None = None) -> None:
        self.known = {series: dict(columns) for series, columns in (known or {}).items()}

    @classmethod
    def of(cls, windows: Iterable[Window]) -> Scale:
        """That of some windows. Raises `DataError` where there are none."""
        sums: dict[str, dict[str, np.ndarray]] = {}
        waiting: dict[tuple[str, tuple[str, ...], int], list[np.ndarray]] = {}

        def add(series: str, names: tuple[str, ...], some: list[np.ndarray]) -> None:
            values = np.stack(some)  # (B, C, N)
            known = np.isfinite(values)
            values = np.where(known, values, 0)
            moments = [each.sum((0, 2)) for each in (known, values, np.square(values))]
            own = sums.setdefault(series, {})
            for name, told in zip(names, np.stack(moments, 1), strict=True):
                own[name] = own.get(name, 0) + told
            some.clear()

        for window in windows:
            kind = window.series or "", window.names, len(window)
            some = waiting.setdefault(kind, [])
            some.append(window.values)
            if len(some) == TOGETHER:
                add(*kind[:2], some)
        for kind, some in waiting.items():
            if some:
                add(*kind[:2], some)
        if not sums:
            raise DataError("there are no windows to learn from", expected="at least one")
        scale = cls()
        for series, columns in sums.items():
            scale.known[series] = {}
            for name, (count, total, squares) in columns.items():
                mean = total / max(count, 1)
                variance = max(squares / max(count, 1) - mean**2, 0.0)
                least = LEAST_DEVIATION * (abs(mean) + 1)
                scale.known[series][name] = (float(mean), float(max(np.sqrt(variance), least)))
        return scale

    def for_series(
        self, series: str | None, names: tuple[str, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Means and deviations (C, 1) of the columns of a series; 0 and 1 of nobody's.

        Raises `DataError` for a series, or a column, that was not learned.
        """
        if series is None:
            return np.zeros((len(names), 1)), np.ones((len(names), 1))
        only = next(iter(self.known)) if len(self.known) == 1 else series
        if only not in self.known:
            raise DataError(
                f"the series {series!r} was not learned.{did_you_mean(series, self.known)}",
                found=series, expected=", ".join(list(self.known)[:20]),
            )  # fmt: skip
        columns = self.known[only]
        for name in names:
            if name not in columns:
                raise DataError(
                    f"the column {name!r} was not learned.{did_you_mean(name, columns)}",
                    found=name, expected=", ".join(columns),
                )  # fmt: skip
        both = np.array([columns[name] for name in names])
        return both[:, :1], both[:, 1:]

    @property
    def only_series(self) -> str | None:
        """The one series that there is; None of several."""
        return next(iter(self.known)) if len(self.known) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {s: {name: list(both) for name, both in c.items()} for s, c in self.known.items()}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Scale:
        """Inverse of `to_json`."""
        return cls({s: {n: (both[0], both[1]) for n, both in c.items()} for s, c in state.items()})


def squeezed(z: np.ndarray) -> Tensor:
    """z -> x; what is missing becomes 0."""
    size = np.abs(np.nan_to_num(z, nan=0.0))
    over = np.maximum(size - STRAIGHT, 0)
    beyond = (STRAIGHT + np.log1p(BEND * over) / BEND) / WIDTH
    x = np.where(size <= STRAIGHT, size / WIDTH, beyond) * np.sign(np.nan_to_num(z))
    return torch.from_numpy(x.astype(np.float32))


def stretched(x: Tensor) -> np.ndarray:
    """Inverse of `squeezed`."""
    values = x.detach().cpu().double().numpy()
    size = np.minimum(np.abs(values), MOST) * WIDTH
    over = np.maximum(size - STRAIGHT, 0)
    beyond = STRAIGHT + np.expm1(BEND * over) / BEND
    return np.where(size <= STRAIGHT, size, beyond) * np.sign(values)
