"""From the rows of a table to a log: which column says who, what and when; every event in order.

Nothing is repaired in silence: rows without a user, an item or a time, rows out of order, rows that
come twice and stamps of mixed units are counted and told, with what was made of them.

Legend: N events.
"""

from __future__ import annotations

import datetime
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from morphogen.core.codec import Problem, Recognition, Report
from morphogen.core.errors import DataError, did_you_mean
from morphogen.core.visible import in_shell
from morphogen.modalities.events.history import Event
from morphogen.modalities.series.stamps import read_stamps
from morphogen.sources import Batch, RecordBatch, Wants, batches, survey

AUTO, NONE = "auto", "none"
USERS = (
    "user", "userid", "username", "customer", "customerid", "visitor", "visitorid", "member",
    "memberid", "account", "accountid", "client", "clientid", "reader", "listener", "uid",
    "session", "sessionid",
)  # fmt: skip
ITEMS = (
    "item", "itemid", "product", "productid", "movie", "movieid", "article", "articleid", "track",
    "trackid", "song", "songid", "book", "bookid", "isbn", "asin", "sku", "stockcode", "content",
    "contentid", "page", "pageid", "url", "title",
)  # fmt: skip
TIMES = (
    "timestamp", "time", "datetime", "date", "stamp", "ts", "eventtime", "createdat", "visittime",
    "unixreviewtime", "orderdate", "invoicedate", "purchasedate", "day",
)  # fmt: skip
KINDS = (
    "event", "eventtype", "action", "behavior", "behaviour", "behaviortype", "interaction", "type",
    "kind",
)  # fmt: skip
MISSING = {"", "na", "n/a", "nan", "null", "none", "<na>", "-"}
MOST_COLUMNS = 8  # of a log that is recognised by its columns alone
MOST_KINDS = 20  # of events: a column of more is something else
SHOWN = 3  # names that a message lists
# Numbers that are moments since 1970, by how many of them make a second.
UNITS = {"seconds": (1e8, 1e10, 1), "milliseconds": (1e11, 1e13, 10**3),
         "microseconds": (1e14, 1e16, 10**6), "nanoseconds": (1e17, 1e19, 10**9)}  # fmt: skip


@dataclass
class Log:
    """Events (N,), those of one user after each other, the oldest first: whose, which, and when."""

    users: list[str]
    events: list[Event]
    user: np.ndarray  # numbers in `users`
    event: np.ndarray  # numbers in `events`
    stamp: np.ndarray  # seconds since 1970 where `dated`, else numbers that only order
    dated: bool = True

    def __len__(self) -> int:
        return len(self.user)

    def only(self, rows: np.ndarray) -> Log:
        """Some of its events, in the same order."""
        taken = self.user[rows], self.event[rows], self.stamp[rows]
        return Log(self.users, self.events, *taken, self.dated)

    def spans(self) -> list[tuple[int, int]]:
        """Where the events of each user start and end, of users who have any."""
        if not len(self):
            return []
        edges = np.flatnonzero(np.diff(self.user)) + 1
        ends = [*edges.tolist(), len(self)]
        return list(zip([0, *edges.tolist()], ends, strict=True))


@dataclass(frozen=True)
class Roles:
    """Which columns say what; there may be none of time and kind."""

    user: str
    item: str
    time: str | None
    kind: str | None


def wants() -> Wants:
    """What this codec opens."""
    return Wants("event", rows=True)


def recognise(source: Any) -> Recognition | None:
    """How sure it is that `source` is a log: few columns, whose names say who, what and when."""
    try:
        seen = survey(source)
    except DataError:
        return None
    names = [name for name in seen.columns if name]
    if seen.media or not 3 <= len(names) <= MOST_COLUMNS:
        return None
    who, what, when = (_called(names, known) for known in (USERS, ITEMS, TIMES))
    if who is None or what is None or when is None:
        return None
    cells = [cell for cell in seen.columns[when] if _text(cell)]
    if not cells or np.isnan(read_times(cells)[0]).mean() > 0.5:
        return None
    return Recognition(0.92, f"{seen.name} of events: who ({who}), what ({what}), when ({when})")


def roles_of(names: Sequence[str], where: str, asked: Mapping[str, str]) -> Roles:
    """Which column says what, as `asked` or as called. Raises `DataError` for one that there is
    not, and where there is none of users, items or times."""
    known = {"user": USERS, "item": ITEMS, "time": TIMES, "kind": KINDS}
    found: dict[str, str | None] = {}
    for role, name in asked.items():
        if name == NONE and role in ("time", "kind"):
            found[role] = None
        elif name == AUTO:
            left = [each for each in names if each not in found.values()]
            found[role] = _called(left, known[role])
        elif name in names:
            found[role] = name
        else:
            raise DataError(
                f"the log has no column {name!r}.{did_you_mean(name, names)}",
                found=", ".join(names[:20]), where=where, hint=f"--set modality.{role}=NAME",
            )  # fmt: skip
    for role, says, example in (
        ("user", "whose the events are", "user_id, customer, session"),
        ("item", "what the events are of", "item_id, product, track"),
        ("time", "when the events were", "timestamp, date, time"),
    ):
        if found[role] is None and asked[role] != NONE:
            hint = f"--set modality.{role}=NAME"
            if role == "time":
                hint += ", or none where the rows are in order"
            raise DataError(
                f"no column of the log says {says}", found=", ".join(names[:20]) or "no columns",
                expected=f"a column called {example} or the like", where=where, hint=hint,
            )  # fmt: skip
    return Roles(str(found["user"]), str(found["item"]), found["time"], found["kind"])


def _called(names: Iterable[str], known: Sequence[str]) -> str | None:
    """The first of the known names that a column has, whatever stands between its words."""
    plain = {re.sub(r"[\s_\-.]", "", name.lower().partition(":")[0]): name for name in names}
    return next((plain[each] for each in known if each in plain), None)


# -- rows ------------------------------------------------------------------------------------------


def read_log(source: Any, report: Report, *, only: str = "", **asked: str) -> Log:
    """Every event of a source, in order. Raises `DataError` where there is nothing to be read."""
    seen = survey(source)
    names = [name for name in seen.columns if name]
    if not names:
        raise seen.damaged or DataError(
            "there are no rows", expected="a table of users, items and times", where=report.source
        )
    roles = roles_of(names, report.source, asked)
    users: dict[str, int] = {}
    events: dict[Event, int] = {}
    rows: list[tuple[int, int, Any]] = []
    lost: dict[str, list[str]] = {"user": [], "item": [], "time": []}
    kept = {part.strip() for part in only.split(",") if part.strip()}
    kinds: Counter[str] = Counter()
    each = itertools.chain.from_iterable(
        _told(some, roles) for some in batches(source, wants(), report)
    )
    for name, who, what, kind, cell in each:
        when = cell if roles.time else len(rows)
        missing = [n for n, t in (("user", who), ("item", what), ("time", _text(when))) if not t]
        if missing:
            lost[missing[0]].append(name)
            continue
        kinds[kind] += 1
        if kept and kind not in kept:
            continue
        number = events.setdefault(Event(what, kind), len(events))
        rows.append((users.setdefault(who, len(users)), number, when))
    _tell_lost(lost, len(rows), roles, report)
    left = [n for n in names if n not in (roles.user, roles.item, roles.time, roles.kind)]
    if left:
        report.facts["not_learned"] = dict.fromkeys(left, "it says neither who, what nor when")
    _check_kinds(kinds, kept, roles, report)
    if _too_many(kinds, kept):
        roles, events, rows = _without_kinds(roles, events, rows)
    return _in_order(list(users), list(events), rows, roles, report)


def _told(some: Batch, roles: Roles) -> Iterator[tuple[str, str, str, str, Any]]:
    """What each row is called, whose it is, of what, of which kind, and the cell that says when."""
    texts = (roles.user, roles.item, roles.kind or "")
    if isinstance(some, RecordBatch):
        names = (f"{some.stem}{number}" for number in some.numbers.tolist())
        columns = (some.column(name).map(_text).each() for name in texts)
        yield from zip(names, *columns, some.column(roles.time or "").each(), strict=True)
        return
    for record in some:
        row = record.value()
        who, what, kind = (_text(row.get(name)) for name in texts)
        yield record.name, who, what, kind, row.get(roles.time or "")


def _too_many(kinds: Mapping[str, int], kept: set[str]) -> bool:
    """Whether there are more kinds than an item is told apart by, and none are named."""
    return len(kinds) > MOST_KINDS and not kept


def _without_kinds(
    roles: Roles, events: Mapping[Event, int], rows: Sequence[tuple[int, int, Any]]
) -> tuple[Roles, dict[Event, int], list[tuple[int, int, Any]]]:
    """The same rows, an item being one event whatever its kind."""
    plain: dict[Event, int] = {}
    to = [plain.setdefault(Event(event.item), len(plain)) for event in events]
    return replace(roles, kind=None), plain, [(who, to[event], when) for who, event, when in rows]


def _check_kinds(kinds: Counter[str], kept: set[str], roles: Roles, report: Report) -> None:
    """Say what kinds of events there are. Raises `DataError` for one that there is not."""
    if missing := sorted(kept - kinds.keys()):
        raise DataError(
            f"no event is of the kind {missing[0]!r}.{did_you_mean(missing[0], kinds)}",
            found=", ".join(f"{kind} ({num:,})" for kind, num in kinds.most_common(10)),
            where=report.source, hint="--set modality.only=KIND,KIND",
        )  # fmt: skip
    if roles.kind is None or len(kinds) < 2:
        return
    if _too_many(kinds, kept):
        report.facts["kinds"] = f"{roles.kind} has {len(kinds):,} values: it is not told apart by"
        return
    listed = ", ".join(f"{kind or 'none'} {num:,}" for kind, num in kinds.most_common(8))
    report.facts["kinds"] = (
        f"{listed}: an item is another event for each kind (--set modality.kind=none: it is one; "
        "modality.only=KIND: those alone)"
    )


def _tell_lost(lost: Mapping[str, Sequence[str]], num: int, roles: Roles, report: Report) -> None:
    """Rows that say too little. Raises `DataError` where they are most."""
    total = sum(map(len, lost.values()))
    if total and total >= num:
        raise DataError(
            "most rows of the log cannot be used",
            found="; ".join(f"{len(r):,} without {name}" for name, r in lost.items() if r),
            expected=f"{roles.user}, {roles.item}" + (f" and {roles.time}" * bool(roles.time)),
            where=report.source, hint=f"morphogen inspect {in_shell(report.source)}",
        )  # fmt: skip
    for role, rows in lost.items():
        if rows:
            column = getattr(roles, role) or role
            reason = f"{len(rows):,} rows have no {role} and are left out, the first {rows[0]}"
            fix = "fill the cells, or delete the rows"
            report.problems.append(Problem(report.source, reason, fix, field=column))


def _in_order(
    users: list[str],
    events: list[Event],
    rows: list[tuple[int, int, Any]],
    roles: Roles,
    report: Report,
) -> Log:
    """The events of each user by time, each once; users as they first come."""
    if not rows:
        raise DataError("there are no events", expected="at least one", where=report.source)
    user, event, cells = (list(part) for part in zip(*rows, strict=True))
    stamp, dated, mixed = read_times(cells)
    field = roles.time or ""
    if mixed:
        reason = f"stamps are of mixed units ({mixed}): all are taken as moments"
        fix = "check the first and the last event; write all in one unit"
        report.problems.append(Problem(report.source, reason, fix, field=field))
    known = ~np.isnan(stamp)
    if not known.all():
        bad = np.flatnonzero(~known)
        if len(bad) * 2 >= len(stamp):
            raise DataError(
                "most stamps of the log cannot be read", found=repr(str(cells[bad[0]])[:40]),
                expected="2024-01-31 13:00:00, or seconds since 1970", where=report.source,
                hint="--set modality.time=NAME",
            )  # fmt: skip
        reason = (
            f"{len(bad):,} events have a stamp that cannot be read and are left out, the first "
            f"{str(cells[bad[0]])[:40]!r}"
        )
        fix = "write it as 2024-01-31 13:00:00, or as seconds since 1970"
        report.problems.append(Problem(report.source, reason, fix, field=field))
    log = Log(users, events, np.array(user)[known], np.array(event)[known], stamp[known], dated)
    order = np.lexsort((log.stamp, log.user))  # stable: one stamp, the order of the file
    late = _num_late(log)
    if late:
        reason = f"{late:,} events come after a later one of their user: they are put in order"
        report.problems.append(Problem(report.source, reason, "sort the log by time", field=field))
    return _once(log.only(order), report)


def _num_late(log: Log) -> int:
    """How many events come after a later one of the same user."""
    grouped = np.argsort(log.user, kind="stable")
    whose, when = log.user[grouped], log.stamp[grouped]
    return int(((np.diff(when) < 0) & (np.diff(whose) == 0)).sum())


def _once(log: Log, report: Report) -> Log:
    """Events of one user, item, kind and stamp are one."""
    order = np.lexsort((np.arange(len(log)), log.event, log.stamp, log.user))
    same = np.zeros(len(log), bool)
    same[1:] = (
        (np.diff(log.user[order]) == 0) & (np.diff(log.stamp[order]) == 0)
        & (np.diff(log.event[order]) == 0)
    )  # fmt: skip
    again = np.zeros(len(log), bool)
    again[order] = same
    if again.any():
        first = int(np.flatnonzero(again)[0])
        who, what = log.users[log.user[first]], log.events[log.event[first]]
        reason = f"{int(again.sum()):,} rows are another's again and are taken once ({who}: {what})"
        fix = "write each event once; a finer stamp tells two of them apart"
        report.problems.append(Problem(report.source, reason, fix))
    return log.only(~again)


# -- cells -----------------------------------------------------------------------------------------


def read_times(cells: Sequence[Any]) -> tuple[np.ndarray, bool, str]:
    """Cells of one column -> seconds since 1970, or numbers that only order (N,), NaN where there
    is none; whether they are dates; and of which units, where these are mixed."""
    numbers = np.array([_number(cell) for cell in cells])
    found = np.full(len(cells), np.nan)
    counts: dict[str, int] = {}
    for unit, (low, high, each) in UNITS.items():
        here = (numbers >= low) & (numbers < high)
        if here.any():
            found[here], counts[unit] = numbers[here] / each, int(here.sum())
    texts = np.flatnonzero(np.isnan(numbers))
    known = len(cells) - len(texts)
    if known and sum(counts.values()) * 2 < known and not len(texts):
        return numbers, False, ""  # steps, days, whatever
    if len(texts):
        read, _ = read_stamps([cells[place] for place in texts.tolist()])
        found[texts] = read
        if not np.isnan(read).all():
            counts["dates"] = int((~np.isnan(read)).sum())
    mixed = ", ".join(f"{num:,} {unit}" for unit, num in counts.items()) if len(counts) > 1 else ""
    return found, True, mixed


def _number(cell: Any) -> float:
    """A cell as a number; NaN where it is none."""
    if cell is None or isinstance(cell, (bool, datetime.date)):
        return math.nan
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _text(cell: Any) -> str:
    """A cell as the name that it is; empty for a missing one."""
    if isinstance(cell, float):  # whole numbers beside missing ones are read as such
        return "" if math.isnan(cell) else f"{cell:.0f}" if cell.is_integer() else repr(cell)
    text = "" if cell is None else str(cell).strip()
    return "" if text.lower() in MISSING else text
