"""Source code: text of many languages, in which layout and names mean something.

Tokens, windows and files are those of `text`; what is code, what harms it and how it is shown is
its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from morphogen import sources
from morphogen.core.codec import Item, Recognition, Report
from morphogen.core.errors import DataError
from morphogen.modalities.code import damages, languages
from morphogen.modalities.text import Text, page
from morphogen.modalities.text.reading import WANTS as TEXTS
from morphogen.sources import Survey, Wants

MOSTLY = 0.5  # of the files that are text, from where a folder is one of code
SURE, SURER = 0.93, 0.03  # of a column of code; than that the same files are any text
UNKNOWN = "unknown"


class Code(Text):
    """Source files, by suffix or by what is in them; cells of a column of code."""

    wants: ClassVar[Wants] = Wants(
        "source file", suffixes=frozenset(languages.SUFFIXES), sniff=languages.sniff,
        cell=TEXTS.cell, column=languages.code_column, streams=True,
    )  # fmt: skip

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        try:
            seen = sources.survey(source)
        except DataError:
            return None
        if seen.columns:
            column = languages.code_column(seen.columns)
            if column is None or seen.media:
                return None
            return Recognition(SURE, f"a table with a column of code, {column!r}")
        if seen.values:  # in memory
            code = [value for value in seen.values if languages.is_code(value)]
            most = len(code) >= MOSTLY * len(seen.values)
            return Recognition(SURE, f"{len(seen.values):,} pieces of code") if most else None
        found = sources.recognise(source, cls.wants)
        if found is None or not seen.suffixes:
            return None
        share = _share_of_code(seen)
        if share < MOSTLY:
            return Recognition(found.sure * share, found.why)
        return Recognition(min(found.sure + SURER, 1.0), found.why)

    @classmethod
    def recognises_cells(cls, values: Sequence[Any]) -> Recognition | None:
        """Cells that are code, as hardly any words are."""
        if not values or not all(map(languages.is_code, values)):
            return None
        return Recognition(0.8, f"code such as {page.brief(values[0], 30)!r}")

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        """The files, each with its language as a tag; how many there are of each is told."""
        found: Counter[str] = Counter()
        for item in super().read(source, report):
            suffix = Path(item.name.partition("#")[0]).suffix.lower()
            language = languages.language_of(item.value, suffix) or UNKNOWN
            found[language] += 1
            yield replace(item, tags={"language": language} | item.tags)
        report.facts["languages"] = dict(found.most_common())

    # -- damage ------------------------------------------------------------------------------------

    def damages(self) -> Mapping[str, Sequence[float]]:
        """Small changes after which a program does something else, or nothing at all."""
        return dict.fromkeys(damages.DAMAGES, (0, 1, 4))

    def damage(self, value: Any, words: str, strength: float, draw: torch.Generator) -> Any:
        """The code after that."""
        return damages.DAMAGES[words](str(value), int(strength), draw)

    # -- for people --------------------------------------------------------------------------------

    def html(self, values: Sequence[Any], columns: int | None = None) -> str:
        """Code with line numbers, its indentation shown."""
        return page.cards(list(map(str, values)), columns, numbered)


def numbered(text: str) -> str:
    """Code as HTML, a number before each line."""
    lines = page.visible(text).replace(page.FAINT.format("\u21b5"), "").split("\n")
    width = len(str(len(lines)))
    gutter = '<span style="color:#a8b3c2;user-select:none">{:>{}}  </span>'
    return "\n".join(gutter.format(n, width) + line for n, line in enumerate(lines, 1))


def _share_of_code(seen: Survey) -> float:
    """Of the files that are texts of any kind, those that are code."""
    code = texts = 0
    for suffix, number in seen.suffixes.items():
        sniffed = any(map(languages.sniff, seen.starts.get(suffix, ())))
        is_code = suffix in languages.SUFFIXES or sniffed
        code += number * is_code
        texts += number * (is_code or suffix in TEXTS.suffixes)
    return code / max(texts, 1)
