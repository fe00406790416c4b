"""Trainings: which data they learned, with which recipe, from where on, and how they ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from morphogen.core.errors import RecordsError
from morphogen.records.database import Database
from morphogen.records.processes import is_over, this_process
from morphogen.records.sealing import HOUSE, Seals
from morphogen.records.tables import Run as Row


@dataclass(frozen=True)
class Run:
    """One training."""

    id: int
    dataset_id: int | None
    user_id: int | None
    family: str
    state: str  # started, finished, cut
    seed: int | None
    started: float
    finished: float | None
    about: Mapping[str, Any]  # place, recipe, facts


class Runs:
    """The trainings of an installation."""

    def __init__(self, database: Database, seals: Seals) -> None:
        self.database, self.seals = database, seals

    def start(
        self,
        family: str,
        place: str,
        recipe: Mapping[str, Any],
        *,
        dataset: int | None = None,
        seed: int | None = None,
        user: int | None = None,
        started: float | None = None,
    ) -> int:
        """Record that a training begins, or began at a time; returns its number."""
        with self.database.write() as session:
            row = Row(
                family=family, dataset_id=dataset, user_id=user, seed=seed, state="started",
                started=started or time.time(), process=this_process(), about=b"",
            )  # fmt: skip
            session.add(row)
            session.flush()
            told = {"place": place, "recipe": dict(recipe)}
            row.about = self.seals.seal_json(session, HOUSE, told, f"run {row.id}")
            return row.id

    def finish(
        self, number: int, *, state: str = "finished", ended: float | None = None, **facts: Any
    ) -> None:
        """Record that it ended, with facts such as its steps: `finished`, or `cut` by somebody."""
        with self.database.write() as session:
            row = self._row(session, number)
            row.state, row.finished, row.process = state, ended or time.time(), None
            about = self.seals.open_json(session, row.about, f"run {row.id}") or {}
            told = {**about, "facts": facts}
            row.about = self.seals.seal_json(session, HOUSE, told, f"run {row.id}")

    def cut_abandoned(self) -> int:
        """Record as cut the trainings whose process ended without a word; returns how many."""
        with self.database.write() as session:
            started = session.scalars(select(Row).where(Row.state == "started"))
            gone = [row for row in started if is_over(row.process)]
            for row in gone:
                row.state, row.finished, row.process = "cut", time.time(), None
        return len(gone)

    def get(self, number: int) -> Run:
        """The run of a number."""
        with self.database.read() as session:
            return self._run(session, self._row(session, number))

    def all(self, *, dataset: int | None = None) -> list[Run]:
        """Every run, or those that learned a dataset, newest first."""
        query = select(Row).order_by(Row.id.desc())
        query = query if dataset is None else query.where(Row.dataset_id == dataset)
        with self.database.read() as session:
            return [self._run(session, row) for row in session.scalars(query)]

    def _row(self, session: Session, number: int) -> Row:
        row = session.get(Row, number)
        if row is None:
            raise RecordsError("no such run is recorded", found=number)
        return row

    def _run(self, session: Session, row: Row) -> Run:
        about = self.seals.open_json(session, row.about, f"run {row.id}") or {}
        return Run(
            row.id, row.dataset_id, row.user_id, row.family, row.state, row.seed, row.started,
            row.finished, about,
        )  # fmt: skip
