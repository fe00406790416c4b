"""Stamps read from cells, the step between them, and stretches laid on an even grid.

Nothing is repaired in silence: rows out of order, stamps that come twice, gaps and stamps beside
the grid are counted and told, with what was made of them.

Legend: C columns, N rows, S steps of the grid.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from morphogen.core.codec import Problem, Report
from morphogen.modalities.series.window import EPOCH, Window, written

FORMS = (
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M",
    "%d/%m/%Y", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y", "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M", "%Y/%m/%d", "%Y-%m", "%Y%m%d %H:%M:%S",
)  # fmt: skip
EVERY, FEW = ("iso", *FORMS), 100  # forms; cells by which likely ones are told
SECONDS, MILLISECONDS = (1e8, 1e10), (1e11, 1e13)  # whole numbers that are moments since 1970
REGULAR = 0.9  # share of steps that are alike, from which a series has a grid
NEAR = 0.01  # of a step, that a stamp may lie beside its place on the grid
MOST_GRID = 20  # steps of the grid for each row: beyond, the series is mostly gaps


def forms_of(cells: Sequence[Any]) -> tuple[str, ...]:
    """The forms of dates that all of some texts are in; "iso" first. Empty: they are no dates."""
    texts = [str(cell).strip() for cell in cells if not _is_moment(cell)]
    return tuple(form for form in EVERY if all(moment(text, form) is not None for text in texts))


def moment(text: str, form: str) -> float | None:
    """A date as seconds since 1970; None where it is in another form."""
    try:
        if form == "iso":
            if text.isdecimal():  # 20240131 is one of many numbers
                return None
            found = datetime.datetime.fromisoformat(text)
        else:
            found = datetime.datetime.strptime(text, form)
    except ValueError:
        return None
    return _seconds(found)


def _is_moment(cell: Any) -> bool:
    return isinstance(cell, datetime.date)


def _seconds(found: datetime.date) -> float:
    if not isinstance(found, datetime.datetime):
        found = datetime.datetime(found.year, found.month, found.day)
    if found.tzinfo is not None:
        found = found.astimezone(datetime.UTC).replace(tzinfo=None)
    return (found - EPOCH).total_seconds()


def read_stamps(cells: Sequence[Any]) -> tuple[np.ndarray, bool]:
    """Cells of one column (N,) -> seconds or numbers (N,), NaN where there is none; and whether
    they are dates. The one form that fits all cells is taken; the first, where several do."""
    numbers = list(itertools.takewhile(lambda number: number is not None, map(_number, cells)))
    if len(numbers) == len(cells):
        found = np.array(numbers, np.float64)
        low, high = found.min(), found.max()
        if SECONDS[0] <= low and high < SECONDS[1]:
            return found, True
        if MILLISECONDS[0] <= low and high < MILLISECONDS[1]:
            return found / 1000, True
        return found, False
    some = cells[:: max(len(cells) // FEW, 1)]
    # A form that fits all cells fits some of them: such are tried before the others.
    likely = [form for form in EVERY if not np.isnan([_stamp(cell, form) for cell in some]).any()]
    tried: list[tuple[int, int, np.ndarray]] = []  # cells that are lost, its place, what is read
    for form in sorted(EVERY, key=lambda form: form not in likely):
        read = np.fromiter((_stamp(cell, form) for cell in cells), np.float64, len(cells))
        tried.append((int(np.isnan(read).sum()), EVERY.index(form), read))
        if not tried[-1][0]:
            break
    return min(tried, key=lambda each: each[:2])[2], True


def _stamp(cell: Any, form: str) -> float:
    if _is_moment(cell):
        return _seconds(cell)
    found = moment(str(cell).strip(), form)
    return np.nan if found is None else found


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool) or cell is None or _is_moment(cell):
        return None
    try:
        found = float(cell)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found) else None


# -- repairs ---------------------------------------------------------------------------------------


def in_order(series: Window, report: Report, where: str) -> Window:
    """Rows by time, each stamp once."""
    steps = np.diff(series.stamps)
    if (steps < 0).any():
        first = int(np.flatnonzero(steps < 0)[0]) + 1
        reason = (
            f"{int((steps < 0).sum()):,} rows come after a later one, the first at "
            f"{series.when(first)}: they are put in order"
        )
        _tell(report, where, reason, "sort the rows by their stamps")
        order = np.argsort(series.stamps, kind="stable")
        series = replace(series, values=series.values[:, order], stamps=series.stamps[order])
    if (np.diff(series.stamps) == 0).any():
        series = _once(series, report, where)
    return series


def _once(series: Window, report: Report, where: str) -> Window:
    """Of a stamp that comes several times, the mean of what is known."""
    stamps, place, counts = np.unique(series.stamps, return_inverse=True, return_counts=True)
    known = np.isfinite(series.values)
    values = np.zeros((len(series.values), len(stamps)))
    number = np.zeros_like(values)
    for row in range(len(values)):
        np.add.at(values[row], place, np.where(known[row], series.values[row], 0))
        np.add.at(number[row], place, known[row])
    with np.errstate(invalid="ignore"):
        values = np.where(number > 0, values / np.maximum(number, 1), np.nan)
    again = np.where(known, series.values - values[:, place], 0)
    differ = int((np.abs(again).max(0) > 1e-9 * (1 + np.abs(values[:, place])).max(0)).sum())
    first = written(float(stamps[int(np.flatnonzero(counts > 1)[0])]), series.dated)
    made = "and become their mean" if differ else "with the same values, and are taken once"
    reason = f"{int((counts > 1).sum()):,} stamps come more than once, the first {first}, {made}"
    _tell(report, where, reason, "keep one row of each stamp; or name the column that tells series "
          "apart: --set modality.series=NAME")  # fmt: skip
    return replace(series, values=values, stamps=stamps)


def step_of(stamps: np.ndarray) -> tuple[float, float]:
    """The commonest step between stamps in order (N,), and the share of steps that it has."""
    steps = np.diff(stamps)
    if not len(steps):
        return 1.0, 1.0
    kinds, counts = np.unique(np.round(steps, 3), return_counts=True)
    return float(kinds[counts.argmax()]), float(counts.max() / len(steps))


def on_grid(series: Window, report: Report, where: str, even: str = "auto") -> Window:
    """The series on an even grid, NaN where there is no row; as it is, where it has none: then its
    rows follow one another as if their steps were alike, which is told."""
    step, share = step_of(series.stamps)
    place = (series.stamps - series.stamps[0]) / step
    num = round(float(place[-1])) + 1
    beside = np.abs(place - place.round()) > NEAR
    sparse = num > MOST_GRID * len(series)
    if even == "rows" or (even == "auto" and (share < REGULAR or sparse or beside.mean() > 0.01)):
        reason = (
            f"its steps are uneven: {share:.0%} are of {_duration(step, series.dated)}; its rows "
            "are taken as they follow one another"
        )
        if even == "auto":
            fix = "--set modality.even=grid fills what is between with gaps; =rows says it is meant"
            _tell(report, where, reason, fix)
        return series
    if num > MOST_GRID * len(series):
        step_told = _duration(step, series.dated)
        reason = f"a grid of {step_told} has {num:,} steps, {len(series):,} known"
        _tell(report, where, reason, "--set modality.even=rows")
    places = place.round().astype(np.int64)
    if beside.any():
        reason = (
            f"{int(beside.sum()):,} stamps lie beside the grid of "
            f"{_duration(step, series.dated)}: each goes to its nearest step"
        )
        _tell(report, where, reason, "correct them, if their time matters")
    values = np.full((len(series.values), num), np.nan)
    values[:, places] = series.values
    stamps = series.stamps[0] + step * np.arange(num)
    return replace(series, values=values, stamps=stamps)


def bridged(series: Window, most: int, report: Report, where: str) -> Window:
    """Gaps of at most so many steps filled with the last value known before; longer ones stay. A
    straight line over a gap would tell what comes after it."""
    values = series.values.copy()
    filled = left = 0
    for row in values:
        missing = ~np.isfinite(row)
        if not missing.any() or missing.all():
            left += int(missing.all())
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[0], missing.astype(np.int8), [0]])))
        for start, end in edges.reshape(-1, 2):
            if end - start <= most and start > 0 and end < len(row):
                row[start:end] = row[start - 1]
                filled += end - start
            else:
                left += 1
    if filled:
        reason = f"{filled:,} missing values are filled with the last known one (gaps up to {most})"
        _tell(report, where, reason, "--set modality.max_gap=0 leaves out what has gaps")
    if left:
        reason = f"{left:,} longer gaps are not filled: no item goes over them"
        _tell(report, where, reason, "--set modality.max_gap=N fills longer ones")
    return replace(series, values=values)


def _duration(step: float, dated: bool) -> str:
    if not dated:
        return f"{step:g}"
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if step >= size and step % size == 0:
            count = step / size
            return f"{count:g} {name}{'s' * (count != 1)}"
    return f"{step:g} seconds"


def _tell(report: Report, where: str, reason: str, fix: str) -> None:
    report.problems.append(Problem(where, reason, fix))
