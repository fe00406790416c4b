"""What people, code and models think of generations: a name, a value or label, an explanation."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

from sqlalchemy import delete, func, select

from morphogen.core.errors import RecordsError
from morphogen.records.database import Database
from morphogen.records.generation import Annotation, Reader
from morphogen.records.generations import Generations, add_words
from morphogen.records.sealing import Seals
from morphogen.records.tables import Annotation as Row

Kind = Literal["human", "code", "model"]
VOTE = "vote"  # what was said of two answers side by side: 1, 0.5 or 0; its label is the pair's
WORD = re.compile(r"[\w.+-]{1,64}")


class Annotations:
    """The annotations of an installation."""

    def __init__(
        self, database: Database, seals: Seals, generations: Generations, reader: Reader
    ) -> None:
        self.database, self.seals = database, seals
        self.generations, self.reader = generations, reader

    def add(
        self,
        generation: str,
        name: str = "rating",
        value: float | None = None,
        *,
        label: str | None = None,
        explanation: str = "",
        kind: Kind = "human",
        user: int | None = None,
    ) -> Annotation:
        """Say what is thought of a generation; the same one's earlier word of this name goes.

        Name and label are words, which can be filtered by; sentences belong into the explanation.
        """
        self._check(name, value, label, kind)
        with self.database.write() as session:
            row = self.generations.row(session, generation)
            session.execute(
                delete(Row).where(
                    Row.generation_id == row.id, Row.name == name, Row.kind == kind,
                    Row.user_id.is_(None) if user is None else Row.user_id == user,
                )
            )  # fmt: skip
            said = Row(
                generation_id=row.id, user_id=user, kind=kind, name=name, value=value, label=label
            )
            if explanation:
                data, purpose = explanation.encode(errors="replace"), f"annotation {row.uid}"
                said.explanation = self.seals.seal(session, user, data, purpose)
                add_words(session, self.database, self.seals, row.id, [explanation])
            session.add(said)
            session.flush()
            thought = self.reader.annotations(session, [row])[row.uid]
            return next(each for each in thought if each.id == said.id)

    def of(self, generation: str) -> tuple[Annotation, ...]:
        """All that is thought of a generation, oldest first."""
        return self.of_all([generation])[generation]

    def of_all(self, generations: Sequence[str]) -> dict[str, tuple[Annotation, ...]]:
        """The same of several, by their ids, in as many queries as of one. Raises `RecordsError`
        where one of them is not there."""
        with self.database.read() as session:
            return self.reader.annotations(session, self.generations.rows(session, generations))

    def remove(self, annotation: int) -> None:
        """Take back what was said."""
        with self.database.write() as session:
            session.execute(delete(Row).where(Row.id == annotation))

    def names(self) -> list[str]:
        """The names that are in use."""
        with self.database.read() as session:
            return list(session.scalars(select(Row.name).distinct().order_by(Row.name)))

    def labels(self, name: str, kind: Kind) -> list[str]:
        """The labels that a name was said with, the newest first."""
        with self.database.read() as session:
            query = select(Row.label).where(Row.name == name, Row.kind == kind, Row.label != "")
            newest = query.group_by(Row.label).order_by(func.max(Row.id).desc())
            return [label for label in session.scalars(newest) if label is not None]

    def _check(self, name: str, value: float | None, label: str | None, kind: str) -> None:
        for what, word in {"name": name, "label": label}.items():
            if word is not None and not WORD.fullmatch(word):
                raise RecordsError(
                    f"the {what} of an annotation is one word",
                    found=repr(word[:80]),
                    expected="letters, digits and . _ + -; sentences go into the explanation",
                )
        if value is not None and not math.isfinite(value):
            raise RecordsError("the value of an annotation is a number", found=value)
        if kind not in ("human", "code", "model"):
            raise RecordsError("who says so?", found=kind, expected="human, code or model")
