"""From the rows of a table to series: which column says what, in long and in wide form.

    wide    time, temperature, load          a series with several columns
    long    time, station, temperature       a series for each station

Files of a folder that have the same columns are a series each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from morphogen.core.codec import Problem, Recognition, Report
from morphogen.core.commas import comma_of, uncomma
from morphogen.core.errors import DataError, did_you_mean
from morphogen.modalities.series.rows import Rows, is_missing, missing_in, rows_of
from morphogen.modalities.series.stamps import forms_of, read_stamps
from morphogen.modalities.series.window import Window
from morphogen.sources import Wants, survey

AUTO, NONE = "auto", "none"
STAMPS = (
    "timestamp", "stamp", "datetime", "date", "time", "ds", "date_time", "day", "month", "hour",
    "period", "step", "t",
)  # fmt: skip
SERIES = ("series", "unique_id", "id", "series_id", "sensor", "station", "device", "store", "item")
STAND_INS = (-999.0, -9999.0, -99.0)  # that often stand for a missing value
COMMON = 0.001  # share of the values, from which such a number is told
MOST_SERIES = 2000


def wants() -> Wants:
    """What this codec opens."""
    return Wants("row of a series", rows=True)


@dataclass(frozen=True)
class Roles:
    """Which columns say what."""

    stamp: str
    series: str | None
    values: tuple[str, ...]


def recognise(source: Any) -> Recognition | None:
    """How sure it is that `source` holds series: rows in order of time, with nothing but numbers
    beside the stamps and the name of the series."""
    try:
        seen = survey(source)
    except DataError:
        return None
    if not seen.columns or seen.media or len(seen.columns) < 2:
        return None
    stamp = stamp_column(seen.columns)
    if stamp is None:
        return None
    series = series_column(seen.columns, stamp)
    others = [name for name in seen.columns if name and name not in (stamp, series)]
    if not others or not all(_is_numeric(seen.columns[name]) for name in others):
        return None
    stamps, dated = read_stamps(seen.columns[stamp])
    whose = [str(cell) for cell in seen.columns[series]] if series else [""] * len(stamps)
    if not dated or np.isnan(stamps).any() or not _ordered(stamps, whose):
        return None
    listed = ", ".join(others[:4]) + (", ..." if len(others) > 4 else "")
    return Recognition(0.8, f"{seen.name} in order of {stamp}: {listed}")


def _ordered(stamps: np.ndarray, whose: Sequence[str]) -> bool:
    """Whether the rows of each series are in order, and of most stamps there is one."""
    seen: dict[str, float] = {}
    repeated = 0
    for stamp, name in zip(stamps, whose, strict=True):
        if stamp < seen.get(name, -np.inf):
            return False
        repeated += stamp == seen.get(name)
        seen[name] = stamp
    return len(stamps) > 2 and repeated * 10 < len(stamps)


def stamp_column(samples: Mapping[str, Sequence[Any]]) -> str | None:
    """The column of stamps: one of a known name that holds dates, else the first that does."""
    lower = {name.strip().lower(): name for name in samples if name}
    named = [lower[name] for name in STAMPS if name in lower]
    for name in [*named, *(name for name in samples if name not in named)]:
        cells = [cell for cell in samples[name] if not is_missing(cell)]
        if not cells:
            continue
        stamps, dated = read_stamps(cells)
        if dated and (forms_of(cells) or name in named) and not np.isnan(stamps).any():
            return name
    return None


def series_column(samples: Mapping[str, Sequence[Any]], stamp: str) -> str | None:
    """The column that says which series a row is of: the only one of texts; else one of a known
    name whose numbers come again and again."""
    others = {name: cells for name, cells in samples.items() if name and name != stamp}
    texts = [name for name, cells in others.items() if not _is_numeric(cells)]
    if len(texts) == 1:
        return texts[0]
    lower = {name.strip().lower(): name for name in others}
    for name in (lower[known] for known in SERIES if known in lower):
        cells = [str(cell) for cell in others[name]]
        if not texts and len(set(cells)) * 2 <= len(cells):
            return name
    return None


def roles_of(
    samples: Mapping[str, Sequence[Any]],
    where: str,
    *,
    stamp: str,
    series: str,
    columns: str,
    ahead: tuple[str, ...],
) -> Roles:
    """Which column says what, as asked for or as found. Raises `DataError` for one that there is
    not, and where none holds stamps or numbers."""
    names = [name for name in samples if name]

    def there(name: str, option: str) -> str:
        if name not in names:
            raise DataError(
                f"the table has no column {name!r}.{did_you_mean(name, names)}",
                found=", ".join(names[:20]), where=where, hint=f"--set modality.{option}=NAME",
            )  # fmt: skip
        return name

    time = stamp_column(samples) if stamp == AUTO else there(stamp, "stamp")
    if time is None:
        raise DataError(
            "no column of the table holds the time",
            found=", ".join(names[:20]) or "no columns",
            expected="a column of dates or moments, such as 2024-01-31 13:00",
            where=where,
            hint="--set modality.stamp=NAME; a column of numbers counts steps",
        )
    whose = None
    if series == AUTO:
        whose = series_column(samples, time)
    elif series != NONE:
        whose = there(series, "series")
    if columns == "all":
        kept = [n for n in names if n not in (time, whose) and _is_numeric(samples[n])]
    else:
        kept = [there(name.strip(), "columns") for name in columns.split(",") if name.strip()]
    beside = [there(name, "ahead") for name in ahead]
    kept = [name for name in kept if name not in beside]
    if not kept:
        raise DataError(
            "no column of the table holds numbers to learn",
            found=", ".join(names[:20]), expected="at least one beside the time", where=where,
        )  # fmt: skip
    return Roles(time, whose, (*kept, *beside))


def read_series(
    source: Any,
    report: Report,
    *,
    stamp: str,
    series: str,
    columns: str,
    ahead: tuple[str, ...],
    missing: str,
) -> Iterator[Window]:
    """Every series of a source, its rows as they come."""
    seen = survey(source)
    if not seen.columns:
        raise seen.damaged or DataError(
            "there are no rows", expected="a table with a column of stamps", where=report.source
        )
    roles = roles_of(
        seen.columns, report.source, stamp=stamp, series=series, columns=columns, ahead=ahead
    )
    left = [n for n in seen.columns if n and n not in (roles.stamp, roles.series, *roles.values)]
    if left and columns == "all":
        report.facts["not_learned"] = dict.fromkeys(left, "it is not of numbers")
    asked = (roles.stamp, *roles.values)
    rows = rows_of(source, wants(), report, asked, roles.series)
    if len(rows) > MOST_SERIES:
        raise DataError(
            "nearly every row is a series of its own",
            found=f"{len(rows):,} values of {roles.series!r}", where=report.source,
            hint="--set modality.series=none",
        )  # fmt: skip
    alone = len(rows) == 1 and roles.series is None
    for whose, own in rows.items():
        name = "" if alone else whose.removesuffix(".csv") if roles.series is None else whose
        if (found := _series(name, own, roles, report, missing)) is not None:
            yield found


def _series(whose: str, rows: Rows, roles: Roles, report: Report, missing: str) -> Window | None:
    """The rows of one series; those without a stamp are problems."""
    stamps, *columns = rows.columns
    there = ~missing_in(stamps)
    known = stamps if there.all() else [stamps[n] for n in np.flatnonzero(there).tolist()]
    read, dated = read_stamps(known or [0])
    times = np.full(len(rows), np.nan)
    times[there] = read if known else np.nan
    for number in np.flatnonzero(np.isnan(times)).tolist():
        reason = f"no stamp that can be read: {str(stamps[number])[:40]!r}"
        fix = "write it as 2024-01-31 13:00, or delete the row"
        where = rows.name(number)
        report.problems.append(Problem(where, reason, fix, fatal=True, field=roles.stamp))
    good = np.flatnonzero(~np.isnan(times))
    if not len(good):
        return None
    values = np.stack([
        _numbers(name, cells, rows.name, report, missing)
        for name, cells in zip(roles.values, columns, strict=True)
    ])  # fmt: skip
    return Window(values[:, good], times[good], roles.values, whose, dated)


def _numbers(
    column: str, cells: Sequence[Any], name: Callable[[int], str], report: Report, missing: str
) -> np.ndarray:
    """Cells as numbers (N,), NaN for missing ones; what is no number is told and missing."""
    found, wrong = _read_numbers(cells)
    if wrong:
        first = wrong[0]
        reason = (
            f"{len(wrong):,} cells are no numbers, the first {str(cells[first])[:30]!r}: taken as "
            "missing"
        )
        report.problems.append(Problem(name(first), reason, "correct them", field=column))
    found[~np.isfinite(found)] = np.nan
    if missing:
        found[found == float(missing)] = np.nan
    for value in STAND_INS if not missing else ():
        share = float((found == value).mean())
        others = found[np.isfinite(found) & (found != value)]
        if share >= COMMON and len(others) and value < others.min() - np.ptp(others):
            reason = f"{share:.1%} of the values are {value:g}, far below all others"
            fix = f"--set modality.missing={value:g}, if that stands for a missing value"
            report.problems.append(Problem(report.source, reason, fix, field=column))
    return found


def _read_numbers(cells: Sequence[Any]) -> tuple[np.ndarray, list[int]]:
    """Cells as numbers (N,), NaN where there is none, and the places of those that are no numbers.
    Most columns are of numbers alone; of others, commas say together what they mean."""
    try:
        return np.fromiter(map(float, cells), np.float64, len(cells)), []
    except (TypeError, ValueError):
        comma = comma_of(cell.strip() for cell in cells if isinstance(cell, str) and "," in cell)
    found, wrong = np.full(len(cells), np.nan), []
    for number in np.flatnonzero(~missing_in(cells)).tolist():
        cell = cells[number]
        try:
            found[number] = float(uncomma(cell, comma) if comma and "," in str(cell) else cell)
        except (TypeError, ValueError):
            wrong.append(number)
    return found, wrong


def _is_numeric(cells: Sequence[Any]) -> bool:
    """Whether all cells that are not missing are numbers, with commas or without."""
    known = [cell for cell in cells if not is_missing(cell)]
    return all(_as_number(cell) for cell in known)


def _as_number(cell: Any) -> bool:
    if isinstance(cell, bool):
        return False
    try:
        float(cell.replace(",", "") if isinstance(cell, str) else cell)
    except (TypeError, ValueError):
        return False
    return True
