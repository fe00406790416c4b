"""Every encrypted value of the records: in which column it stands, and as what it is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import LargeBinary, Select, func, select
from sqlalchemy.orm import Session

from morphogen.records.sealing import HEAD
from morphogen.records.tables import (
    Annotation,
    Artefact,
    Dataset,
    Deed,
    Evaluation,
    Fragment,
    Generation,
    Made,
    Model,
    Run,
    Template,
    User,
)

PAGE = 1000


@dataclass(frozen=True)
class Content:
    """One encrypted value."""

    row: int
    sealed: bytes
    purpose: str


@dataclass(frozen=True)
class Contents:
    """An encrypted column: the purpose of a value, and the columns that stand in it."""

    column: Any
    purpose: str  # such as "template {}:{}"
    told_by: tuple[Any, ...]

    @property
    def table(self) -> Any:
        """The class of its rows."""
        return self.column.class_

    def all(self, session: Session) -> Iterator[Content]:
        """Every value, page by page."""
        for row in session.execute(self._query().execution_options(yield_per=PAGE)):
            yield self._content(row)

    def sealed_with(
        self, session: Session, keys: Sequence[int], *, after: int, most: int
    ) -> list[Content]:
        """Values that one of these data keys encrypts, of rows `after` a number, in order."""
        query = self._query().where(self.table.id > after, self._key.in_(_packed(keys)))
        return [self._content(row) for row in session.execute(query.limit(most))]

    def keys_in_use(self, session: Session, keys: Sequence[int]) -> set[int]:
        """Which of these data keys encrypt a value."""
        query = select(self._key).where(self._key.in_(_packed(keys))).distinct()
        return {HEAD.unpack(bytes(each))[0] for each in session.scalars(query)}

    @property
    def _key(self) -> Any:
        """The number of the data key, as it stands at the beginning of a value."""
        return func.substr(self.column, 1, HEAD.size, type_=LargeBinary())

    def _query(self) -> Select[Any]:
        query = select(self.table.id, self.column, *self.told_by)
        if any(each.class_ is not self.table for each in self.told_by):
            query = query.join(Generation, Generation.id == self.table.generation_id)
        return query.where(self.column.is_not(None)).order_by(self.table.id)

    def _content(self, row: Any) -> Content:
        number, sealed, *told = row
        words = (each.hex() if isinstance(each, bytes) else each for each in told)
        return Content(number, sealed, self.purpose.format(*words))


CONTENTS = (
    Contents(User.name, "user {}", (User.id,)),
    Contents(Fragment.content, "fragment {}", (Fragment.address,)),
    Contents(Template.text, "template {}:{}", (Template.name, Template.version)),
    Contents(Generation.parameters, "parameters {}", (Generation.uid,)),
    Contents(Artefact.place, "artefact {}", (Generation.uid,)),
    Contents(Annotation.explanation, "annotation {}", (Generation.uid,)),
    Contents(Dataset.about, "dataset {}", (Dataset.digest,)),
    Contents(Dataset.items, "items {}", (Dataset.digest,)),
    Contents(Run.about, "run {}", (Run.id,)),
    Contents(Model.about, "model {}", (Model.hash,)),
    Contents(Evaluation.record, "evaluation {}", (Evaluation.id,)),
    Contents(Deed.about, "deed {}", (Deed.id,)),
    Contents(Made.entries, "made {} {}", (Made.modality, Made.place)),
)


def _packed(keys: Sequence[int]) -> list[bytes]:
    return [HEAD.pack(key) for key in keys]
