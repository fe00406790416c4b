"""A generation as it is read: what its rows say, with the contents opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from morphogen.records.people import Users
from morphogen.records.prompts import Message, Prompts
from morphogen.records.sealing import Seals
from morphogen.records.tables import Annotation as AnnotationRow
from morphogen.records.tables import Artefact
from morphogen.records.tables import Generation as Row
from morphogen.records.tables import User as UserRow


@dataclass(frozen=True)
class Annotation:
    """What somebody or something thinks of a generation."""

    id: int
    name: str  # such as rating
    value: float | None
    label: str | None
    explanation: str
    kind: str  # human, code, model
    user: str | None
    created: float


@dataclass(frozen=True)
class Generation:
    """One thing that was asked of a model, and what came."""

    id: str
    number: int  # in the order in which they were started
    task: str
    model: str
    model_hash: str | None
    model_id: int | None
    verdict: str | None  # of the model's last evaluation
    user: str | None
    user_id: int | None
    state: str  # started, finished, cut
    reason: str | None
    seed: int | None
    started: float
    finished: float | None
    usage: Mapping[str, Any]
    prompt: tuple[Message, ...]  # all of the conversation; in lists its last message alone
    answer: Message | None
    prompt_id: int | None  # nodes of the tree, see `prompts`
    answer_id: int | None
    parameters: Mapping[str, Any] = field(default_factory=dict)  # not in lists
    files: tuple[Path, ...] = ()  # not in lists
    annotations: tuple[Annotation, ...] = ()

    @property
    def text(self) -> str:
        """What was asked last, and what was answered."""
        parts = [message.text for message in self.prompt[-1:]]
        return "\n".join([*parts, *([self.answer.text] if self.answer else [])])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, with what was said as text."""
        said = [{"role": m.role, "text": m.text, "node": m.id} for m in self.prompt]
        facts = {name: value for name, value in vars(self).items() if name != "prompt"}
        return {
            **facts,
            "prompt": said,
            "answer": self.answer.text if self.answer else None,
            "files": [str(file) for file in self.files],
            "annotations": [vars(each) for each in self.annotations],
        }


class Reader:
    """Reads rows of generations."""

    def __init__(self, seals: Seals, prompts: Prompts, users: Users) -> None:
        self.seals, self.prompts, self.users = seals, prompts, users

    def whole(self, session: Session, row: Row) -> Generation:
        """With everything that is recorded of it."""
        (found,) = self.many(session, [row])
        path = self.prompts.read_path(session, row.prompt_id) if row.prompt_id else []
        parameters = self.seals.open_json(session, row.parameters, f"parameters {row.uid}")
        files = session.scalars(
            select(Artefact).where(Artefact.generation_id == row.id).order_by(Artefact.id)
        )
        places = [self.seals.open(session, f.place, f"artefact {row.uid}") for f in files]
        return replace(
            found, prompt=tuple(path), parameters=parameters or {},
            files=tuple(Path(p.decode(errors="surrogateescape")) for p in places if p),
        )  # fmt: skip

    def many(self, session: Session, rows: Sequence[Row]) -> list[Generation]:
        """For a list: the last message of each prompt, the answers, the annotations; a query for
        each kind, however many rows there are."""
        nodes = {node for row in rows for node in (row.prompt_id, row.answer_id) if node}
        said = self.prompts.read(session, nodes)
        thought = self._annotations(session, {row.id: row.uid for row in rows})
        names = self._names(session, {row.user_id for row in rows})
        return [
            Generation(
                id=row.uid, number=row.id, task=row.task, model=row.model_name,
                model_hash=row.model_hash, model_id=row.model_id, verdict=row.verdict,
                user=names.get(row.user_id), user_id=row.user_id, state=row.state,
                reason=row.reason, seed=row.seed, started=row.started, finished=row.finished,
                usage=row.usage or {}, prompt_id=row.prompt_id, answer_id=row.answer_id,
                prompt=(said[row.prompt_id],) if row.prompt_id else (),
                answer=said[row.answer_id] if row.answer_id else None,
                annotations=tuple(thought[row.id]),
            )
            for row in rows
        ]  # fmt: skip

    def annotations(
        self, session: Session, rows: Sequence[Row]
    ) -> dict[str, tuple[Annotation, ...]]:
        """What is thought of each, oldest first, by their ids."""
        found = self._annotations(session, {row.id: row.uid for row in rows})
        return {row.uid: tuple(found[row.id]) for row in rows}

    def _annotations(
        self, session: Session, uids: Mapping[int, str]
    ) -> dict[int, list[Annotation]]:
        """Of generations, by their numbers."""
        rows = list(
            session.scalars(
                select(AnnotationRow)
                .where(AnnotationRow.generation_id.in_(uids))
                .order_by(AnnotationRow.id)
            )
        )
        names = self._names(session, {row.user_id for row in rows})
        found: dict[int, list[Annotation]] = {number: [] for number in uids}
        for row in rows:
            purpose = f"annotation {uids[row.generation_id]}"
            told = self.seals.open(session, row.explanation, purpose)
            said = Annotation(
                row.id, row.name, row.value, row.label, told.decode() if told else "", row.kind,
                names.get(row.user_id), row.created,
            )  # fmt: skip
            found[row.generation_id].append(said)
        return found

    def _names(self, session: Session, numbers: Iterable[int | None]) -> dict[int | None, str]:
        wanted = {number for number in numbers if number is not None}
        if not wanted:
            return {}
        rows = session.scalars(select(UserRow).where(UserRow.id.in_(wanted)))
        return {row.id: self.users.name_of(session, row) for row in rows}
