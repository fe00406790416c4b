"""Records opened in turn and in threads: the same items and the same problems."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from morphogen.core.codec import Report
from morphogen.core.errors import DataError
from morphogen.sources import Record, opened


def number(record: Record, notes: Report) -> int:
    found: int = record.value()
    notes.facts["sizes"] = {f"{found % 2}": 1}
    if found % 10 == 3:
        raise DataError("odd", hint="even it")
    return found


def made(num: int = 500) -> Iterator[Record]:
    return (Record(f"{n}", "cell", partial(int, n)) for n in range(num))


@pytest.mark.parametrize("threads", [1, 4, None])
def test_opened_keeps_the_order_and_the_problems(threads: int | None) -> None:
    report = Report("")
    items = list(opened(made(), number, report, threads=threads))
    assert [item.value for item in items] == [n for n in range(500) if n % 10 != 3]
    assert [problem.name for problem in report.skipped] == [f"{n}" for n in range(3, 500, 10)]
    assert report.facts["sizes"] == {"0": 250, "1": 250}
