"""Series to items: windows with what came before each, divided by time alone.

    ---- past ----|== item ==|                        training: before the moment of the cut
                             ^cut        ---- past ----|== item ==|      test: from the cut on

The steps of an item are its own side's: no training item holds a step of the test split, and none
of the test split one of the training split. What came before an item of the test split may lie
before the cut, as it does when a model is used. One moment divides all series, so that nothing is
trained on that is later than what is tested; or each is divided by itself, where they are of other
times.

Legend: P steps of the past, L steps of an item.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from morphogen.core.codec import Item, Problem, Report
from morphogen.core.errors import DataError
from morphogen.modalities.series.stamps import read_stamps
from morphogen.modalities.series.window import Window, written

SHARE_HELD, LEAST_HELD = 0.1, 200  # of training items, and items, that are held back
MOST_ITEMS = 100_000  # where no stride is named: fewer of longer series begin at all steps


@dataclass(frozen=True)
class Cut:
    """Where time is divided: training items end before `train_until`, those of the test split lie
    from `test_from` on and end before `test_until`."""

    train_until: float
    test_from: float
    test_until: float = np.inf


def moment_of(text: str, dated: bool, option: str) -> float:
    """A stamp as a user writes it. Raises `DataError` for what is none."""
    stamps, is_date = read_stamps([text])
    if np.isnan(stamps[0]) or is_date != dated:
        raise DataError(
            f"{option} is no stamp of this series",
            found=text,
            expected="a date such as 2024-01-31 13:00" if dated else "a number of steps",
            hint=f"--set modality.{option}=STAMP",
        )
    return float(stamps[0])


def cuts_of(
    every: Sequence[Window],
    test: float,
    *,
    each_alone: bool,
    train_until: str | None,
    test_from: str | None,
    test_until: str | None,
) -> list[Cut]:
    """Where each series is divided: after all but a share `test` of all rows, or of its own; or at
    the moments told. Raises `DataError` where the test split would not come last."""
    dated = every[0].dated
    every_stamp = np.concatenate([each.stamps for each in every])
    first = test_from or train_until
    cuts = []
    for each in every:
        start = _after(each.stamps if each_alone else every_stamp, test)
        start = moment_of(first, dated, "test_from") if first else start
        until = moment_of(train_until, dated, "train_until") if train_until else start
        end = moment_of(test_until, dated, "test_until") if test_until else np.inf
        if not until <= start < end:
            raise DataError(
                "the test split does not come after the training split",
                found=f"train until {written(until, dated)}, test from {written(start, dated)}",
                expected="train_until <= test_from < test_until",
            )
        cuts.append(Cut(until, start, end))
    return cuts


def _after(stamps: np.ndarray, test: float) -> float:
    """The first moment of the last share `test` of some rows."""
    place = min(int(len(stamps) * (1 - test)), len(stamps) - 1)
    return float(np.sort(stamps)[place])


def items_of(
    every: Sequence[Window],
    cuts: Sequence[Cut],
    report: Report,
    *,
    past: int,
    length: int,
    stride: int | None,
    ahead: tuple[str, ...] = (),
) -> Iterator[Item]:
    """Every item of every series, in order of time, with its past, what is known `ahead`, and its
    split."""
    room = sum(max(len(each) - past - length + 1, 0) for each in every)
    if not room:
        longest = max(map(len, every))
        raise DataError(
            "no series is as long as an item with what came before it",
            found=f"{longest:,} steps in the longest",
            expected=f"{past + length:,}: {past:,} before an item of {length:,}",
            where=report.source,
            hint="--set modality.past=N --set modality.length=N",
        )
    every_so_many = stride or max(1, -(-room // MOST_ITEMS))
    counts = {"gaps": 0, "cut": 0, "train": 0, "test": 0}
    for each, cut in zip(every, cuts, strict=True):
        known = np.isfinite(each.values).all(0)
        gaps = np.concatenate([[0], np.cumsum(~known)])
        name = each.series or "series"
        told, each = divided(each, ahead)
        for start in range(past, len(each) - length + 1, every_so_many):
            split = _side(each.stamps[start], each.stamps[start + length - 1], cut)
            if split is None:
                counts["cut"] += 1
                continue
            if gaps[start + length] > gaps[start - past]:
                counts["gaps"] += 1
                continue
            counts[split] += 1
            item = each.cut(start, start + length)
            cond: dict[str, object] = {"label": each.series} if len(every) > 1 else {}
            if past:
                cond["past"] = each.cut(start - past, start)
            if told is not None:
                cond["ahead"] = told.cut(start, start + length)
            yield Item(item, f"{name}@{item.when(0)}", cond, split)
    _note(counts, every, cuts, every_so_many, report)
    if not counts["test"]:  # else some would be held out whatever their time
        raise DataError(
            "no item lies in the held-out time",
            found=f"{counts['train']:,} items before it",
            expected=f"{length:,} steps from the cut on",
            where=report.source,
            hint="--set modality.test=0.5, or shorter items: --set modality.length=N",
        )


def held_back(names: Sequence[str], length: int) -> tuple[Tensor, Tensor] | None:
    """Of training items by name, in the order of time of each series: the places of those to learn
    from, and of the last tenth of each series. Those between, which share steps with both, are of
    neither. None where there would be fewer than `LEAST_HELD`."""
    whose = [name.rpartition("@")[0] for name in names]
    learned: list[int] = []
    held: list[int] = []
    start = 0
    for _, group in itertools.groupby(whose):
        end = start + sum(1 for _ in group)
        first = end - int((end - start) * SHARE_HELD)
        learned += range(start, max(first - length + 1, start))
        held += range(first, end)
        start = end
    if len(held) < LEAST_HELD or len(learned) < len(held):
        return None
    return torch.tensor(learned), torch.tensor(held)


def divided(each: Window, ahead: tuple[str, ...]) -> tuple[Window | None, Window]:
    """What is known ahead of a series, and what is learned of it."""
    if not ahead:
        return None, each
    return each.only(ahead), each.only(tuple(n for n in each.names if n not in ahead))


def _side(first: float, last: float, cut: Cut) -> str | None:
    if last < cut.train_until:
        return "train"
    return "test" if first >= cut.test_from and last < cut.test_until else None


def _note(
    counts: dict[str, int],
    every: Sequence[Window],
    cuts: Sequence[Cut],
    stride: int,
    report: Report,
) -> None:
    report.facts["divided"] = _told(cuts, every[0].dated)
    if stride > 1:
        report.facts["stride"] = f"an item begins at every {stride:,} steps"
    if counts["cut"]:
        report.facts["over_the_cut"] = (
            f"{counts['cut']:,} windows go over the cut or lie between the splits: on neither side"
        )
    if counts["gaps"]:
        reason = f"{counts['gaps']:,} windows have gaps, and are no items"
        fix = "--set modality.max_gap=N fills gaps up to so long"
        report.problems.append(Problem(report.source, reason, fix))


def _told(cuts: Sequence[Cut], dated: bool) -> str:
    if len(set(cuts)) > 1:
        return (
            "by time, each series by itself: what one is trained on may be later than what another "
            "is tested on"
        )
    until, start = (written(each, dated) for each in (cuts[0].train_until, cuts[0].test_from))
    return f"by time: train before {until}, test from {start}"


def last_of(every: Window, past: int, length: int, ahead: tuple[str, ...] = ()) -> Item:
    """What comes next: an item of nothing yet, after the last step of which all is known.

    Raises `DataError` where there are too few steps before it, or they have gaps, or what is to be
    known ahead is not.
    """
    told, each = divided(every, ahead)
    where = each.series or "the series"
    known = np.isfinite(each.values).all(0)
    end = int(np.flatnonzero(known)[-1]) + 1 if known.any() else 0
    if end < max(past, 1):
        raise DataError(
            "there is too little to go on from", found=f"{end:,} steps",
            expected=f"at least {past:,}", where=where,
        )  # fmt: skip
    before = each.cut(end - past, end)
    if missing := int((~known[end - past : end]).sum()):
        raise DataError(
            "what there is to go on from has gaps", found=f"{missing:,} of {past:,} steps",
            expected="none", where=where, hint="fill them, or end before them",
        )  # fmt: skip
    cond: dict[str, object] = {"past": before, "label": each.series or None}
    if told is not None:
        cond["ahead"] = told.cut(end, end + length)
        there = int(np.isfinite(told.values[:, end : end + length]).all(0).sum())
        if there < length:
            raise DataError(
                f"what is known ahead is missing: {', '.join(ahead)}",
                found=f"{there:,} of {length:,} steps after {each.when(end - 1)}",
                expected="a row for each step to come, with the columns to be forecast left empty",
                where=where,
            )
    step = float(np.median(np.diff(each.stamps))) if len(each) > 1 else 1.0
    stamps = each.stamps[end - 1] + step * np.arange(1, length + 1)
    values = np.full((len(each.values), length), np.nan)
    name = f"after {where}@{each.when(end - 1)}"
    return Item(replace(before, values=values, stamps=stamps), name, cond)
