"""Blind comparisons: two models answer the same, and people who see no name say which is better.

All of it is in the records, as annotations of the answers:

    contest   value N, label CONTEST      by code: the answer is one of the N-th pair of a contest
    vote      1, 0.5 or 0, label PAIR     by a person, of both answers of a pair

PAIR is CONTEST.N. Which answer stands left is drawn by a keyed hash for each pair and person, so
that nothing on the page tells, and a page that is opened again shows the same.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from morphogen.comparison.win_rate import WinRate
from morphogen.records.annotations import VOTE
from morphogen.records.generation import Generation
from morphogen.records.searching import Filters
from morphogen.serve.errors import APIError

PART = "contest"
VOTES = {"left": 1.0, "tie": 0.5, "right": 0.0}  # of the left answer


@dataclass(frozen=True)
class Pair:
    """Two answers to the same, in the order of their models."""

    contest: str
    number: int  # from 0 on
    answers: tuple[Generation, Generation]

    @property
    def word(self) -> str:
        """The label of what is said of it."""
        return f"{self.contest}.{self.number}"

    @property
    def votes(self) -> dict[str | None, float]:
        """What people said of the first answer, by their names."""
        said = self.answers[0].annotations
        return {
            a.user: a.value for a in said
            if a.name == VOTE and a.kind == "human" and a.label == self.word and a.value is not None
        }  # fmt: skip

    def vote_on(self, answer: Generation, who: str | None) -> float | None:
        """What somebody said of one of the two."""
        vote = self.votes.get(who)
        return vote if vote is None or answer is self.answers[0] else 1 - vote

    @property
    def won(self) -> float | None:
        """Whether the first answer is the better one, as most say: 1, 0.5, 0; None: nobody did."""
        votes = list(self.votes.values())
        if not votes:
            return None
        mean = sum(votes) / len(votes)
        return 0.5 if mean == 0.5 else float(mean > 0.5)


@dataclass(frozen=True)
class Contest:
    """The pairs that there are by now, in their order."""

    id: str
    models: tuple[str, ...]
    pairs: tuple[Pair, ...]
    began: float

    def left_for(self, who: str | None, after: int = -1) -> list[Pair]:
        """The pairs that somebody has not voted on, those after a number."""
        return [pair for pair in self.pairs if pair.number > after and who not in pair.votes]

    def pair(self, number: int) -> Pair:
        """Raises `APIError` where there is none of this number."""
        found = next((pair for pair in self.pairs if pair.number == number), None)
        if found is None:
            raise APIError(404, "there is no such pair")
        return found

    def rate(self) -> WinRate | None:
        """How often the first model's answer is the better one; a pair counts once, however many
        voted on it."""
        won = [pair.won for pair in self.pairs]
        known = [each for each in won if each is not None]
        return WinRate.of(self.models[0], known) if known else None


def new_name() -> str:
    """Of a contest: it tells nothing."""
    return os.urandom(6).hex()


def read(records: Any, name: str) -> Contest:
    """A contest from the records. Raises `APIError` where there is none."""
    found = list(records.search.every(filters=Filters(label=name)))
    if not found:
        raise APIError(404, "there is no such comparison")
    models = tuple(sorted({each.model for each in found}))
    sides: dict[int, dict[str, Generation]] = defaultdict(dict)
    for each in found:
        if each.state == "finished" and (number := _number(each, name)) is not None:
            sides[number][each.model] = each
    pairs = tuple(
        Pair(name, number, (both[models[0]], both[models[1]]))
        for number, both in sorted(sides.items())
        if len(both) == 2
    )
    return Contest(name, models, pairs, min(each.started for each in found))


def names(records: Any) -> list[str]:
    """Every contest, the newest first."""
    found: list[str] = records.annotations.labels(PART, "code")
    return found


def add(records: Any, name: str, number: int, answers: list[str]) -> None:
    """Record that generations are a pair of a contest."""
    for uid in answers:
        records.annotations.add(uid, PART, float(number), label=name, kind="code")


def vote(records: Any, pair: Pair, side: str, user: Any) -> None:
    """Record what somebody thinks: `left`, `right` or `tie`, as they see it. Raises `APIError`."""
    if side not in VOTES:
        raise APIError(400, f"a vote is left, right or tie, not {side[:40]!r}")
    value = VOTES[side]
    left, right = seen(records, pair, user.name)
    for answer, own in ((left, value), (right, 1 - value)):
        records.annotations.add(answer.id, VOTE, own, label=pair.word, user=user.id)


def seen(records: Any, pair: Pair, who: str | None) -> tuple[Generation, Generation]:
    """The answers as somebody sees them: left, and right."""
    first, second = pair.answers
    is_turned = records.seals.blind("side", f"{pair.word} {who}")[0] % 2
    return (second, first) if is_turned else (first, second)


def _number(answer: Generation, name: str) -> int | None:
    said = (a for a in answer.annotations if a.name == PART and a.label == name)
    return next((int(a.value) for a in said if a.value is not None), None)
