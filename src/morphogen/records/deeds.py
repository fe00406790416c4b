"""What was done with data and models beside training: kept, divided, compared, taken in, copied.

So that whoever asks for an item of the data is told of every place that it was brought to.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from morphogen.records.database import Database
from morphogen.records.sealing import HOUSE, Seals
from morphogen.records.tables import Deed as Row


@dataclass(frozen=True)
class Deed:
    """One thing that was done."""

    id: int
    verb: str  # such as snapshot
    user_id: int | None
    dataset_id: int | None
    model_id: int | None
    about: Mapping[str, Any]  # source, made: places, facts
    created: float

    @property
    def source(self) -> str:
        """What it was done with: a place."""
        return str(self.about.get("source", ""))

    @property
    def made(self) -> list[str]:
        """The places of what came of it."""
        return [str(each) for each in self.about.get("made", ())]

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was found."""
        facts: Mapping[str, Any] = self.about.get("facts", {})
        return facts


class Deeds:
    """The deeds of an installation."""

    def __init__(self, database: Database, seals: Seals) -> None:
        self.database, self.seals = database, seals

    def add(
        self,
        verb: str,
        source: Path | str,
        *,
        made: Iterable[Path | str] = (),
        facts: Mapping[str, Any] | None = None,
        dataset: int | None = None,
        model: int | None = None,
        user: int | None = None,
    ) -> Deed:
        """Record what was done with a source, and what it `made`."""
        about = {
            "source": placed(source),
            "made": [placed(each) for each in made],
            "facts": dict(facts or {}),
        }
        with self.database.write() as session:
            row = Row(
                verb=verb, user_id=user, dataset_id=dataset, model_id=model, about=b"",
                created=time.time(),
            )  # fmt: skip
            session.add(row)
            session.flush()
            row.about = self.seals.seal_json(session, HOUSE, about, f"deed {row.id}")
            return self._deed(session, row)

    def all(self, *, verb: str | None = None) -> list[Deed]:
        """Every deed, or those of a verb, newest first."""
        query = select(Row).order_by(Row.id.desc())
        query = query if verb is None else query.where(Row.verb == verb)
        with self.database.read() as session:
            return [self._deed(session, row) for row in session.scalars(query)]

    def concerning(self, file: Path) -> list[Deed]:
        """What was done with a file, or with a folder that it lies in, oldest first."""
        above = {str(file), *map(str, file.parents)}
        return [each for each in reversed(self.all()) if each.source in above]

    def _deed(self, session: Session, row: Row) -> Deed:
        about = self.seals.open_json(session, row.about, f"deed {row.id}") or {}
        return Deed(row.id, row.verb, row.user_id, row.dataset_id, row.model_id, about, row.created)


def placed(place: Path | str) -> str:
    """A place as the records know it: a path from the root on; an address or a name as it is."""
    told = Path(place)
    return str(told.resolve()) if told.exists() else str(place)
