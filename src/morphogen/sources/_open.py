"""Records to items: opened several at once, in order, with every problem in its place."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from morphogen.core.codec import Item, Problem, Report
from morphogen.core.errors import DataError
from morphogen.sources._record import Record

CHUNK = 32  # records that one thread opens at a time
WORTH_A_THREAD = 0.001  # seconds of one record
AHEAD_BYTES = 1 << 26  # of files that are held before they are asked for
Open = Callable[[Record, Report], Any]
Opened = tuple[Record, Any, Report]


def opened(
    records: Iterable[Record], open_record: Open, report: Report, *, threads: int | None = None
) -> Iterator[Item]:
    """Each record's value as an item; what cannot be opened becomes a problem of `report`.

    `open_record(record, notes)` turns one record into a value, or raises `DataError` saying why it
    cannot and, as the hint, what to do; what it notes in `notes` reaches `report` in the order of
    the records, whichever thread comes first.
    """
    for record, value, notes in _in_threads(records, open_record, threads):
        if notes.problems or notes.facts or notes.marks:
            merge(report, notes)
        if value is not None:
            yield Item(value, record.name, record.cond, record.split, record.tags)


def _in_threads(
    records: Iterable[Record], open_record: Open, threads: int | None
) -> Iterator[Opened]:
    """Chunk by chunk, at most two chunks a thread ahead of what is asked for.

    Unless the number of threads is given, the first chunk says whether they pay: what is opened in
    less than a millisecond is mostly Python, in which threads only wait for one another.
    """
    chunks = _chunks(records)
    if threads is None:
        threads = 1
        for chunk in chunks:
            began = time.thread_time()
            done = _open_all(chunk, open_record)
            if (time.thread_time() - began) / len(chunk) > WORTH_A_THREAD:
                threads = min(8, os.cpu_count() or 1)
            yield from done
            break
    if threads <= 1:
        for chunk in chunks:
            yield from _open_all(chunk, open_record)
        return
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[list[Opened]]] = deque()
        try:
            for chunk in chunks:
                pending.append(pool.submit(_open_all, chunk, open_record))
                if len(pending) >= 2 * threads:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records in lists; few together where they are large."""
    chunk: list[Record] = []
    held = 0
    for record in records:
        chunk.append(record)
        held += record.num_bytes
        if len(chunk) >= CHUNK or held > AHEAD_BYTES // 16:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _open_all(records: Sequence[Record], open_record: Open) -> list[Opened]:
    return [_open(record, open_record) for record in records]


def _open(record: Record, open_record: Open) -> Opened:
    notes = Report("")
    try:
        return record, open_record(record, notes), notes
    except DataError as error:
        fix = error.hint or "correct it, or leave it out"
        notes.problems.append(Problem(record.name, error.message, fix, fatal=True))
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        detail = getattr(error, "strerror", None) or str(error)
        reason = f"the file cannot be read: {detail}"
        notes.problems.append(Problem(record.name, reason, "check its permissions", fatal=True))
    return record, None, notes


def merge(report: Report, notes: Report) -> None:
    """Add notes to a report: problems in order, numbers summed, tables of numbers key by key."""
    report.problems += notes.problems
    report.marks |= notes.marks
    for name, value in notes.facts.items():
        old = report.facts.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            for key, number in value.items():
                old[key] = old.get(key, 0) + number
        elif isinstance(value, int) and isinstance(old, int):
            report.facts[name] = old + value
        else:
            report.facts[name] = value
