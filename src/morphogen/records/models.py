"""Models by the hash of their weights, where they lie, what they were made from; and judgements."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from morphogen.core.errors import RecordsError, did_you_mean
from morphogen.core.folder import MODEL
from morphogen.core.storage import expanded
from morphogen.core.visible import in_shell
from morphogen.data.snapshot import Store
from morphogen.records.database import Database
from morphogen.records.sealing import HOUSE, Seals
from morphogen.records.tables import Evaluation as EvaluationRow
from morphogen.records.tables import Generation
from morphogen.records.tables import Model as Row

NOT_TESTED = "copying was not tested"


@dataclass(frozen=True)
class Model:
    """A trained or imported bundle."""

    id: int
    hash: str  # SHA-256 of its weights
    name: str
    family: str
    modality: str
    run_id: int | None
    base_id: int | None  # the model that its training began with
    version: str | None  # of the copy that is kept
    about: Mapping[str, Any]  # place, data, origin
    created: float

    @property
    def place(self) -> str:
        """Where it was last seen."""
        return str(self.about.get("place", ""))


@dataclass(frozen=True)
class Evaluation:
    """One judgement of a model."""

    id: int
    model_id: int
    dataset_id: int | None
    verdict: str  # of the copying test
    passed: bool | None  # its gate, where it had one
    record: Mapping[str, Any]  # as `evaluate` returns it
    created: float


def hash_of(bundle: Path | str) -> str:
    """What a bundle is known by: the SHA-256 of its weights, read from its config.json."""
    from morphogen.core.config import read_config

    return str(read_config(expanded(bundle))["files"][MODEL])


class Models:
    """The models of an installation."""

    def __init__(self, database: Database, seals: Seals, store: Path) -> None:
        self.database, self.seals, self.store = database, seals, store

    def add(self, bundle: Path | str, *, run: int | None = None, keep: bool = False) -> Model:
        """Record the bundle in a folder; one that is known gets its new place. With `keep`, a copy
        of its files is kept (see `data.snapshot`), which `restore` brings back."""
        from morphogen.core.config import read_config
        from morphogen.core.recipe import component_of

        path = expanded(bundle)
        config = read_config(path)
        version = Store.beside(path, self.store).snapshot(path).id if keep else None
        codec, recipe = config["codec"], config["recipe"]
        about = {"place": str(path.resolve()), "data": config["data"]}
        about |= {name: config[name] for name in ("origin", "run") if name in config}
        with self.database.write() as session:
            digest = config["files"][MODEL]
            row = session.scalars(select(Row).where(Row.hash == digest)).first() or Row(
                hash=digest, family=component_of(recipe)[1],
                modality=str(codec.get("name", "")), created=time.time(),
            )  # fmt: skip
            row.name, row.run_id = path.resolve().name, run or row.run_id
            row.version = version or row.version
            base = recipe.get("start", {}).get("sha256")
            row.base_id = session.scalars(select(Row.id).where(Row.hash == base)).first()
            row.about = self.seals.seal_json(session, HOUSE, about, f"model {digest}")
            session.add(row)
            session.flush()
            return self._model(session, row)

    def get(self, which: str | int) -> Model:
        """The model of a number, of a hash or its beginning, or the newest of a name."""
        with self.database.read() as session:
            row = session.get(Row, which) if isinstance(which, int) else None
            if isinstance(which, str):
                known = (Row.hash == which, Row.name == which)
                near = (Row.hash.startswith(which, autoescape=True),) * (len(which) >= 8)
                for clause in (*known, *near):
                    query = select(Row).where(clause).order_by(Row.id.desc()).limit(1)
                    row = row or session.scalars(query).first()
            if row is None:
                names = list(session.scalars(select(Row.name).distinct()))
                raise RecordsError(
                    f"no model {which!r} is recorded.{did_you_mean(str(which), names)}",
                    found=", ".join(names[:20]) or "none yet",
                )
            return self._model(session, row)

    def all(self, *, run: int | None = None, base: int | None = None) -> list[Model]:
        """Every model, or those of a run, or those that began with a base; newest first."""
        query = select(Row).order_by(Row.id.desc())
        query = query if run is None else query.where(Row.run_id == run)
        query = query if base is None else query.where(Row.base_id == base)
        with self.database.read() as session:
            return [self._model(session, row) for row in session.scalars(query)]

    def restore(self, which: str | int, folder: Path | str) -> Path:
        """Write the kept copy of a model into a new folder."""
        model = self.get(which)
        if model.version is None:
            raise RecordsError(
                f"of the model {model.name} no copy is kept", where=model.place,
                hint=f"morphogen records model {in_shell(model.place)} --keep",
            )  # fmt: skip
        Store.at(self.store).restore(model.version, folder)
        return Path(folder)

    def num_answers(self, model: int) -> int:
        """How many generations a model made."""
        with self.database.read() as session:
            counted = select(func.count()).where(Generation.model_id == model)
            return session.scalars(counted).one()

    def evaluated(
        self,
        which: str | int,
        record: Mapping[str, Any],
        *,
        passed: bool | None = None,
        dataset: int | None = None,
    ) -> Evaluation:
        """Record an evaluation of a model, as `evaluate` returns it."""
        model = self.get(which)
        verdict = str(record.get("copying", {}).get("verdict", NOT_TESTED))
        with self.database.write() as session:
            row = EvaluationRow(
                model_id=model.id, dataset_id=dataset, verdict=verdict, passed=passed,
                created=time.time(), record=b"",
            )  # fmt: skip
            session.add(row)
            session.flush()
            told, purpose = dict(record), f"evaluation {row.id}"
            row.record = self.seals.seal_json(session, HOUSE, told, purpose)
            return self._evaluation(session, row)

    def evaluations(self, model: int) -> list[Evaluation]:
        """The judgements of a model, newest first."""
        with self.database.read() as session:
            rows = session.scalars(
                select(EvaluationRow)
                .where(EvaluationRow.model_id == model)
                .order_by(EvaluationRow.id.desc())
            )
            return [self._evaluation(session, row) for row in rows]

    def _model(self, session: Session, row: Row) -> Model:
        about = self.seals.open_json(session, row.about, f"model {row.hash}") or {}
        return Model(
            row.id, row.hash, row.name, row.family, row.modality, row.run_id, row.base_id,
            row.version, about, row.created,
        )  # fmt: skip

    def _evaluation(self, session: Session, row: EvaluationRow) -> Evaluation:
        record = self.seals.open_json(session, row.record, f"evaluation {row.id}") or {}
        return Evaluation(
            row.id, row.model_id, row.dataset_id, row.verdict, row.passed, record, row.created
        )
