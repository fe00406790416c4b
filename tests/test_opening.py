"""Records opened here, in threads and in other processes: the same items and the same problems."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial

import pytest

from morphogen.core.codec import Report
from morphogen.core.errors import DataError
from morphogen.sources import Record, opened
from morphogen.sources._apart import Apart
from morphogen.sources._open import _ahead, _open_all

HERE = os.getpid()
CHUNK = 10


def number(record: Record, notes: Report) -> int:
    found: int = record.value()
    notes.facts["sizes"] = {f"{found % 2}": 1}
    if found % 10 == 3:
        raise DataError("odd", hint="even it")
    return found


def killed(record: Record, notes: Report, here: int) -> tuple[int, bool]:
    """The number, and whether it was opened here; the 250th ends any other process."""
    is_here = os.getpid() == here
    if record.name == "250" and not is_here:
        os.kill(os.getpid(), signal.SIGKILL)
    return number(record, notes), is_here


def made(num: int = 500) -> Iterator[Record]:
    return (Record(f"{n}", "cell", partial(int, n)) for n in range(num))


@pytest.mark.parametrize("threads", [1, 4, None])
def test_opened_keeps_the_order_and_the_problems(threads: int | None) -> None:
    report = Report("")
    items = list(opened(made(), number, report, threads=threads))
    assert [item.value for item in items] == [n for n in range(500) if n % 10 != 3]
    assert [problem.name for problem in report.skipped] == [f"{n}" for n in range(3, 500, 10)]
    assert report.facts["sizes"] == {"0": 250, "1": 250}


def test_another_process_opens_the_same_and_may_be_killed() -> None:
    opening = partial(killed, here=HERE)
    apart = Apart(1, partial(_open_all, [], opening))
    apart.ready.result()
    records = list(made())
    chunks = (records[start : start + CHUNK] for start in range(0, len(records), CHUNK))
    values, names, elsewhere = [], [], 0
    for chunk, (found, notes) in _ahead(chunks, opening, apart, 8):
        assert len(chunk) == CHUNK
        values += [value[0] for value in found if value]
        elsewhere += sum(not value[1] for value in found if value)
        names += [problem.name for problem in notes.problems]
    assert values == [n for n in range(500) if n % 10 != 3]
    assert names == [f"{n}" for n in range(3, 500, 10)]
    assert elsewhere > 0
