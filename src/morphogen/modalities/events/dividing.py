"""A log to items: of each user what is learned, and what is judged; divided by time.

    user a   . . . . . . | . . x       learned: before the moment of the cut
    user b   . . . .     |             judged:  x, the last event of each user, from the moment on,
    user c               | . x                  given all that the user did before it

What comes before a judged event may lie on either side of the moment, as when a model is used. One
moment divides all users, so that nothing is learned that is later than what is judged; or each is
divided before the last event, whatever the others did later.

Legend: N events, L events of an item at most.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from morphogen.core.codec import Item, Problem, Report
from morphogen.core.errors import DataError
from morphogen.modalities.events.history import Event, History
from morphogen.modalities.events.reading import SHOWN, Log
from morphogen.modalities.series.window import written

MOST_EVENTS = 100  # of an item, where no length is named
Divide = Literal["moment", "each"]


@dataclass(frozen=True)
class Division:
    """Which events are learned (N,), and the moment from which on others are judged; None where
    each user has one of their own."""

    learned: np.ndarray
    moment: float | None

    @classmethod
    def of(cls, log: Log, test: float, divide: Divide, source: str) -> Division:
        """Before the last share `test` of all events, or before the last of each user's."""
        if divide == "each":
            learned = np.ones(len(log), bool)
            for start, end in log.spans():
                learned[end - 1] = end - start < 2
            return cls(learned, None)
        place = min(int(len(log) * (1 - test)), len(log) - 1)
        moment = float(np.sort(log.stamp)[place])
        learned = log.stamp < moment
        if not learned.any():
            raise DataError(
                "there is no moment that divides the log",
                found=f"{len(log):,} events, the first {place:,} of them at one time",
                expected="events that follow one another", where=source,
                hint="--set modality.divide=each judges the last event of each user",
            )  # fmt: skip
        return cls(learned, moment)


def items_of(
    log: Log,
    report: Report,
    *,
    length: int | None,
    fewest: int,
    test: float,
    divide: Divide,
    known: Collection[Event] | None = None,
) -> Iterator[Item]:
    """What is learned and what is judged of each user. Events of items that are not `known`, or
    that come less than `fewest` times before the cut, are left out and told."""
    division = Division.of(log, test, divide, report.source)
    _note(log, division, report)
    there = _kept(log, division, fewest, known, report)
    log = log.only(there)
    division = replace(division, learned=division.learned[there])
    spans = log.spans()
    longest = max((end - start for start, end in spans), default=0)
    room = length or max(min(longest, MOST_EVENTS), 2)
    new, alone, judged, learned = [], [], 0, 0
    for start, end in spans:
        name = log.users[log.user[start]]
        own = int(division.learned[start:end].sum())
        bounds = range(start + own, start, -room)
        for number, stop in enumerate(bounds):
            part = f"{name}#{number}" if len(bounds) > 1 else name
            learned += 1
            yield Item(_history(log, max(start, stop - room), stop), part, {}, "train")
        if end - start < 2:
            alone.append(name)
        elif not division.learned[end - 1]:
            if not own:
                new.append(name)
            judged += 1
            whole = _history(log, max(start, end - room), end)
            yield Item(whole, f"{name}, up to the last", {}, "test")
    report.num_read += learned + judged
    _tell_users(new, alone, judged, report)
    if not judged or not learned:
        raise DataError(
            "no event is left to be judged" if learned else "no event is left to be learned",
            found=f"{learned:,} sequences before the cut, {judged:,} users with a last event after",
            expected="at least one of each", where=report.source,
            hint="--set modality.test=0.3, or modality.divide=each",
        )  # fmt: skip


def whole_histories(log: Log) -> list[History]:
    """All that each user did."""
    return [_history(log, start, end) for start, end in log.spans()]


def _history(log: Log, start: int, end: int) -> History:
    events = tuple(log.events[number] for number in log.event[start:end].tolist())
    return History(events, log.users[log.user[start]], log.stamp[start:end], log.dated)


def _kept(
    log: Log, division: Division, fewest: int, known: Collection[Event] | None, report: Report
) -> np.ndarray:
    """Which events are of items that a model can know (N,)."""
    counts = np.bincount(log.event[division.learned], minlength=len(log.events))
    able = counts >= max(fewest, 1)
    if known is not None:
        able = np.array([event in known for event in log.events])
    there: np.ndarray = able[log.event]
    rare = np.unique(log.event[~there & division.learned])
    if len(rare):
        num = int((~there & division.learned).sum())
        limit = f"come less than {fewest} times before the cut"
        why = limit if known is None else "were not learned"
        reason = f"{num:,} events of {len(rare):,} items that {why} are left out: "
        fix = "--set modality.fewest=1 learns all" if known is None else "train on this log"
        report.problems.append(Problem(report.source, reason + _listed(log, rare), fix))
    cold = np.setdiff1d(np.unique(log.event[~there & ~division.learned]), rare)
    if len(cold):
        num, after = int(np.isin(log.event, cold).sum()), int((~division.learned).sum())
        reason = (
            f"{num:,} of {after:,} events after the cut are of {len(cold):,} cold items, which no "
            f"event before it is of: they are left out, as no model of these items can name them: "
            f"{_listed(log, cold)}"
        )
        fix = "a later cut (--set modality.test=0.05) learns more of them"
        report.problems.append(Problem(report.source, reason, fix))
    return there


def _listed(log: Log, numbers: np.ndarray) -> str:
    more = ", ..." if len(numbers) > SHOWN else ""
    return ", ".join(str(log.events[number]) for number in numbers[:SHOWN]) + more


def _note(log: Log, division: Division, report: Report) -> None:
    first, last = (written(float(end), log.dated) for end in (log.stamp.min(), log.stamp.max()))
    num_users = len(np.unique(log.user))
    report.facts["log"] = (
        f"{num_users:,} users, {len(np.unique(log.event)):,} items, {len(log):,} events "
        f"from {first} to {last}"
    )
    when = "the last event of each user is judged, whatever others did later"
    if division.moment is not None:
        moment = written(division.moment, log.dated)
        when = f"learned before {moment}; the last event of each user from then on is judged"
    report.facts["divided"] = f"by time: {when}"


def _tell_users(new: list[str], alone: list[str], judged: int, report: Report) -> None:
    """Users of whom nothing is known before the cut, or nothing to be judged."""
    if new:
        more = ", ..." if len(new) > SHOWN else ""
        report.facts["cold_users"] = (
            f"{len(new):,} of {judged:,} judged users have no event before the cut: "
            f"{', '.join(new[:SHOWN])}{more}"
        )
    if alone:
        more = ", ..." if len(alone) > SHOWN else ""
        reason = (
            f"{len(alone):,} users have one event, which nothing is known before: learned as a "
            f"beginning, never judged: {', '.join(alone[:SHOWN])}{more}"
        )
        report.problems.append(Problem(report.source, reason, "none is needed"))
