r"""Questions with what is known of them: where their answers stand, and what these are.

    {"question": "How long is the notice period?", "places": ["handbook/leave.md"],
     "quote": "three months", "answers": ["three months"]}

`places` are documents that answer it, `quote` what a passage that does holds (in one of them, where
they are named); `answers` are texts, any of which is right; none at all ([]): the documents do not
say. Only the question is needed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morphogen.core.border import parse_json, read_text
from morphogen.core.errors import DataError, missing_path
from morphogen.systems.knowledge.passage import Passage

SHAPE = {
    "question": str,
    "places?": ([str], None),
    "quote?": (str, None),
    "answers?": ([str], None),
}
_ARTICLES = ("a", "an", "the")


@dataclass(frozen=True)
class Question:
    """What is asked, and what is known of it; None: nothing is."""

    text: str
    places: tuple[str, ...] | None = None
    quote: str | None = None
    answers: tuple[str, ...] | None = None

    @property
    def is_judged(self) -> bool:
        """Whether it is known which passages answer it."""
        return bool(self.places) or self.quote is not None

    def is_answered_by(self, passage: Passage) -> bool:
        """Whether a passage is one of those."""
        there = not self.places or passage.place in self.places
        return there and (self.quote is None or self.quote in passage.text)


def read_questions(file: Path | str) -> list[Question]:
    """The questions of a file of JSON lines. Raises `DataError` for a line that is none."""
    file = Path(file)
    if not file.exists():
        raise missing_path(file)
    found = list(_read(file))
    if not found:
        raise DataError("there are no questions", where=file, expected="a question on each line")
    return found


def _read(file: Path) -> Iterator[Question]:
    for number, line in enumerate(read_text(file, DataError).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        told: dict[str, Any] = parse_json(line, SHAPE, where, DataError)
        if not told["question"].strip():
            raise DataError("the question is empty", where=where, expected="words")
        places, answers = told.get("places"), told.get("answers")
        yield Question(
            told["question"],
            None if places is None else tuple(places),
            told.get("quote"),
            None if answers is None else tuple(answers),
        )


# -- answers held against those that are right (Rajpurkar et al. 2016) -----------------------------


def is_exact(text: str, answers: Sequence[str]) -> bool:
    """Whether a text is one of the answers, but for case, marks and articles."""
    return any(words(text) == words(each) for each in answers)


def overlap(text: str, answers: Sequence[str]) -> float:
    """F1 of the words that a text and the nearest of the answers have in common."""
    return max((_f1(Counter(words(text)), Counter(words(each))) for each in answers), default=0.0)


def words(text: str) -> list[str]:
    """In their order, without marks and articles."""
    plain = re.sub(r"[^\w\s]", "", text.lower()).split()
    return [word for word in plain if word not in _ARTICLES]


def _f1(one: Counter[str], other: Counter[str]) -> float:
    same = sum((one & other).values())
    return 2 * same / (one.total() + other.total()) if same else 0.0
