"""Records to items: opened several at once, in order, with every problem in its place."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from morphogen.core.codec import Item, Problem, Report
from morphogen.core.errors import DataError
from morphogen.sources._record import Record

CHUNK = 32  # records that are opened together
WORTH_A_THREAD = 0.001  # seconds of one record
AHEAD_BYTES = 1 << 26  # of files that are held before they are asked for
Open = Callable[[Record, Report], Any]
Opened = tuple[list[Any], Report]  # the values of a chunk, None where there is none; what is noted
Chunks = Iterator[list[Record]]


def opened(
    records: Iterable[Record], open_record: Open, report: Report, *, threads: int | None = None
) -> Iterator[Item]:
    """Each record's value as an item; what cannot be opened becomes a problem of `report`.

    `open_record(record, notes)` turns one record into a value, or raises `DataError` saying why it
    cannot and, as the hint, what to do; what it notes in `notes` reaches `report` in the order of
    the records, whichever thread comes first.
    """
    for chunk, (values, notes) in _several_at_once(_chunks(records), open_record, threads):
        merge(report, notes)
        for record, value in zip(chunk, values, strict=True):
            if value is not None:
                yield Item(value, record.name, record.cond, record.split, record.tags)


def _several_at_once(
    chunks: Chunks, open_record: Open, threads: int | None
) -> Iterator[tuple[list[Record], Opened]]:
    """Chunk by chunk, a few ahead of what is asked for.

    Unless the number of threads is given, the first chunk says whether they pay: what is opened in
    less than a millisecond is mostly Python, in which threads only wait for one another.
    """
    if threads is None:
        threads = 1
        for chunk in chunks:
            began = time.thread_time()
            done = _open_all(chunk, open_record)
            if (time.thread_time() - began) / len(chunk) > WORTH_A_THREAD:
                threads = min(8, os.cpu_count() or 1)
            yield chunk, done
            break
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            yield from _ahead(chunks, open_record, pool, 2 * threads - 1)
        return
    for chunk in chunks:
        yield chunk, _open_all(chunk, open_record)


def _ahead(
    chunks: Chunks, open_record: Open, pool: Executor, most: int
) -> Iterator[tuple[list[Record], Opened]]:
    """Chunks opened in a pool, in order, `most` of them before they are asked for."""
    waiting: deque[tuple[list[Record], Future[Opened]]] = deque()

    def next_one() -> tuple[list[Record], Opened]:
        chunk, found = waiting.popleft()
        return chunk, found.result()

    try:
        for chunk in chunks:
            waiting.append((chunk, pool.submit(_open_all, chunk, open_record)))
            while len(waiting) > most or (waiting and waiting[0][1].done()):
                yield next_one()
        while waiting:
            yield next_one()
    finally:
        for _, found in waiting:
            found.cancel()


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


def _open_all(records: Sequence[Record], open_record: Open) -> Opened:
    values, all_notes = [], Report("")
    for record in records:
        notes = Report("")
        values.append(_open(record, open_record, notes))
        merge(all_notes, notes)
    return values, all_notes


def _open(record: Record, open_record: Open, notes: Report) -> Any:
    try:
        return open_record(record, notes)
    except DataError as error:
        fix = error.hint or "correct it, or leave it out"
        notes.problems.append(Problem(record.name, error.message, fix, fatal=True))
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        detail = getattr(error, "strerror", None) or str(error)
        reason = f"the file cannot be read: {detail}"
        notes.problems.append(Problem(record.name, reason, "check its permissions", fatal=True))
    return None


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
