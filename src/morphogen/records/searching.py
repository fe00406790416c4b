r"""Generations found by words, people, models, times and ratings, newest first.

The words are looked for in the blind index, the rest in columns, and what is found is opened and
read: a page is what holds the words indeed. Pages follow each other by `before`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, exists, func, select
from sqlalchemy.orm import Session, aliased

from morphogen.records.database import Database
from morphogen.records.generation import Generation, Reader
from morphogen.records.generations import word_hash
from morphogen.records.sealing import Seals
from morphogen.records.tables import Annotation, Word
from morphogen.records.tables import Generation as Row
from morphogen.records.words import asked, holds

COMMON = 1000  # generations that hold a word: more are not counted
LOOKED_THROUGH = 4  # pages that are opened for one, at most, where beginnings are asked for


@dataclass(frozen=True)
class Filters:
    """Which generations are meant; what is None does not matter."""

    since: float | None = None  # seconds since 1970
    until: float | None = None
    user: int | None = None
    model: str | None = None  # name
    model_hash: str | None = None
    task: str | None = None
    state: str | None = None
    annotation: str = "rating"  # whose value is bounded by:
    at_least: float | None = None
    at_most: float | None = None
    label: str | None = None  # of any annotation

    def apply(self, query: Select[Any]) -> Select[Any]:
        """The query, for these alone."""
        same = {
            Row.user_id: self.user, Row.model_name: self.model, Row.model_hash: self.model_hash,
            Row.task: self.task, Row.state: self.state,
        }  # fmt: skip
        for column, value in same.items():
            query = query if value is None else query.where(column == value)
        if self.since is not None:
            query = query.where(Row.started >= self.since)
        if self.until is not None:
            query = query.where(Row.started <= self.until)
        if self.at_least is not None or self.at_most is not None:
            said = [Annotation.name == self.annotation]
            said += [] if self.at_least is None else [Annotation.value >= self.at_least]
            said += [] if self.at_most is None else [Annotation.value <= self.at_most]
            query = query.where(Row.id.in_(select(Annotation.generation_id).where(*said)))
        if self.label is not None:
            query = query.where(
                exists().where(Annotation.generation_id == Row.id, Annotation.label == self.label)
            )
        return query


class Search:
    """Finds generations."""

    def __init__(self, database: Database, seals: Seals, reader: Reader) -> None:
        self.database, self.seals, self.reader = database, seals, reader

    def __call__(
        self,
        text: str = "",
        filters: Filters | None = None,
        *,
        limit: int = 50,
        before: int | None = None,
    ) -> list[Generation]:
        """At most `limit` generations that hold every word of `text` (`boot*`: a beginning) and
        suit the filters, newest first, those before the `number` of an earlier page."""
        found: list[Generation] = []
        with self.database.read() as session:
            for _ in range(LOOKED_THROUGH):
                query = self._query(session, text, filters or Filters(), before)
                rows = list(session.scalars(query.limit(limit - len(found))))
                read = self.reader.many(session, rows)
                found += [each for each in read if not text or self._holds(each, text)]
                if len(found) >= limit or not rows:
                    break
                before = rows[-1].id
        return found

    def every(self, text: str = "", filters: Filters | None = None) -> Iterator[Generation]:
        """All of them, page by page."""
        before = None
        while page := self(text, filters, before=before, limit=200):
            yield from page
            before = page[-1].number

    def count(self, text: str = "", filters: Filters | None = None) -> int:
        """How many there are; where beginnings are asked for, at most so many."""
        with self.database.read() as session:
            inner = self._query(session, text, filters or Filters(), None).with_only_columns(Row.id)
            counted = select(func.count()).select_from(inner.order_by(None).subquery())
            return session.scalars(counted).one()

    def _query(
        self, session: Session, text: str, filters: Filters, before: int | None
    ) -> Select[Any]:
        """The generations with these words, newest first: those with the rarest of the words are
        gone through in the order of the index, and looked up under the others."""
        found = [word_hash(self.seals, term) for term in asked(text)]
        if not found:
            query = filters.apply(select(Row)).order_by(Row.id.desc())
            return query if before is None else query.where(Row.id < before)
        rarest, *others = sorted(found, key=lambda word: self._at_most(session, word))
        first = aliased(Word)
        query = select(Row).join_from(first, Row, Row.id == first.generation_id)
        query = filters.apply(query.where(first.word == rarest))
        for word in others:
            other = aliased(Word)
            same = other.generation_id == first.generation_id
            query = query.where(exists().where(other.word == word, same))
        if before is not None:
            query = query.where(first.generation_id < before)
        return query.order_by(first.generation_id.desc())

    @staticmethod
    def _at_most(session: Session, word: int) -> int:
        """How many generations hold a word; of common ones, that they are common."""
        some = select(Word.generation_id).where(Word.word == word).limit(COMMON)
        return session.scalars(select(func.count()).select_from(some.subquery())).one()

    @staticmethod
    def _holds(found: Generation, text: str) -> bool:
        said = "\n".join([found.text, *(a.explanation for a in found.annotations)])
        return holds(said, text)
