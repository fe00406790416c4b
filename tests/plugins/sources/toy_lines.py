"""A source outside the package: a .toy file, one item a line, its class before a colon."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from morphogen.core.codec import Report
from morphogen.sources import Record, Source, Survey, Wants, read_regular


class ToyLines(Source):
    """Lines such as `cat: a cat that sleeps`."""

    @classmethod
    def opens(cls, source: Any) -> float:
        return 0.9 if str(source).endswith(".toy") and Path(source).is_file() else 0.0

    def survey(self) -> Survey:
        return Survey("memory", values=[text for _, text in self._lines()], name="a .toy file")

    def records(self, wants: Wants, report: Report) -> Iterator[Record]:
        for number, (label, text) in enumerate(self._lines()):
            yield Record(f"line#{number}", "cell", partial(str, text), cond={"label": label})

    def _lines(self) -> Iterator[tuple[str, str]]:
        for line in read_regular(self.source).decode().splitlines():
            label, _, text = line.partition(":")
            yield label, text.strip()
