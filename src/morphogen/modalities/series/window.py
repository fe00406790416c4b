"""A stretch of one series: what an item is, what came before it, what is known of its time.

Legend: C columns, N steps.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

EPOCH = datetime.datetime(1970, 1, 1)


@dataclass(frozen=True, eq=False)
class Window:
    """Values (C, N) at stamps (N,), NaN where nothing is known; names of the columns; whose it is.

    `stamps` are seconds since 1970 where `dated`, else numbers of steps. `past` came before it.
    `low` and `high` (C, N) are ends of a band that the values lie in, where they are forecast.
    """

    values: np.ndarray
    stamps: np.ndarray
    names: tuple[str, ...]
    series: str | None = ""  # whose it is; None: nobody's, in standard deviations
    dated: bool = True
    past: Window | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    level: float = 0.8  # share of the truth that the band holds

    def __len__(self) -> int:
        return self.values.shape[1]

    @property
    def nbytes(self) -> int:
        """About how much memory it takes."""
        return int(self.values.nbytes + self.stamps.nbytes)

    def tobytes(self) -> bytes:
        """What tells it from others: what it holds, and when. The same values at another time are
        another item."""
        told = f"{self.series} {self.names} {self.values.shape} ".encode()
        return told + self.values.tobytes() + self.stamps.tobytes()

    def cut(self, start: int, end: int) -> Window:
        """Steps `start` to `end`, which share the memory of this one."""
        return Window(
            self.values[:, start:end], self.stamps[start:end], self.names, self.series, self.dated,
            self.past, self.low, self.high, self.level,
        )  # fmt: skip

    def only(self, names: tuple[str, ...]) -> Window:
        """Some of its columns."""
        rows = [self.names.index(name) for name in names]
        return replace(self, values=self.values[rows], names=names)

    def when(self, step: int) -> str:
        """The stamp of a step, as a person writes it."""
        return written(float(self.stamps[step]), self.dated)

    def __str__(self) -> str:
        whose = f"{self.series}: " if self.series else ""
        ends = ""
        for name, row in zip(self.names, self.values, strict=True):
            known = row[np.isfinite(row)]
            told = f"{known[0]:.4g} to {known[-1]:.4g}" if len(known) else "nothing known"
            ends += f"{', ' * bool(ends)}{name} {told}"
        return f"{whose}{len(self):,} steps, {ends}"


def together(windows: Sequence[Window]) -> Window:
    """Windows of one series, one after the other, as one."""

    def joined(name: str) -> np.ndarray | None:
        parts = [getattr(window, name) for window in windows]
        return None if parts[0] is None else np.concatenate(parts, axis=-1)

    ends = {name: joined(name) for name in ("values", "stamps", "low", "high")}
    return replace(windows[0], **ends)  # type: ignore[arg-type]


def written(stamp: float, dated: bool) -> str:
    """A stamp as text: a date with its time where it has one, or a number."""
    if not dated:
        return f"{stamp:.10g}"
    moment = EPOCH + datetime.timedelta(seconds=round(stamp, 3))
    text = moment.isoformat(" ", "seconds" if moment.microsecond == 0 else "milliseconds")
    return text.removesuffix(" 00:00:00")
