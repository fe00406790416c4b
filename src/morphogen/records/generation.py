"""A generation as it is read: what its rows say, with the contents opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
from morphogen.records.tables import Prompt as PromptRow
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


class Reader:
    """Reads rows of generations."""

    def __init__(self, seals: Seals, prompts: Prompts, users: Users) -> None:
        self.seals, self.prompts, self.users = seals, prompts, users

    def whole(self, session: Session, row: Row) -> Generation:
        """With everything that is recorded of it."""
        path = self.prompts.read_path(session, row.prompt_id) if row.prompt_id else []
        parameters = self.seals.open_json(session, row.parameters, f"parameters {row.uid}")
        files = session.scalars(
            select(Artefact).where(Artefact.generation_id == row.id).order_by(Artefact.id)
        )
        places = [self.seals.open(session, f.place, f"artefact {row.uid}") for f in files]
        return self._generation(
            session, row, tuple(path), parameters=parameters or {},
            files=tuple(Path(p.decode(errors="surrogateescape")) for p in places if p),
        )  # fmt: skip

    def short(self, session: Session, row: Row) -> Generation:
        """For a list: the last message of the prompt, the answer, the annotations."""
        return self._generation(session, row, self._message(session, row.prompt_id))

    def _generation(
        self, session: Session, row: Row, prompt: tuple[Message, ...], **more: Any
    ) -> Generation:
        owner = None if row.user_id is None else session.get(UserRow, row.user_id)
        answer = self._message(session, row.answer_id)
        return Generation(
            id=row.uid, number=row.id, task=row.task, model=row.model_name,
            model_hash=row.model_hash, model_id=row.model_id, verdict=row.verdict,
            user=self.users.name_of(session, owner) if owner else None, user_id=row.user_id,
            state=row.state, reason=row.reason, seed=row.seed, started=row.started,
            finished=row.finished, usage=row.usage or {}, prompt=prompt,
            answer=answer[0] if answer else None, prompt_id=row.prompt_id, answer_id=row.answer_id,
            annotations=self.annotations(session, row), **more,
        )  # fmt: skip

    def annotations(self, session: Session, row: Row) -> tuple[Annotation, ...]:
        """What is thought of it, oldest first."""
        rows = session.scalars(
            select(AnnotationRow)
            .where(AnnotationRow.generation_id == row.id)
            .order_by(AnnotationRow.id)
        )
        return tuple(self._annotation(session, each, row.uid) for each in rows)

    def _annotation(self, session: Session, row: AnnotationRow, uid: str) -> Annotation:
        owner = None if row.user_id is None else session.get(UserRow, row.user_id)
        told = self.seals.open(session, row.explanation, f"annotation {uid}")
        return Annotation(
            row.id, row.name, row.value, row.label, told.decode() if told else "", row.kind,
            self.users.name_of(session, owner) if owner else None, row.created,
        )  # fmt: skip

    def _message(self, session: Session, node: int | None) -> tuple[Message, ...]:
        row = None if node is None else session.get(PromptRow, node)
        return () if row is None else (self.prompts.read(session, row),)
