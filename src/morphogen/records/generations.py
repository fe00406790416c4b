"""What was asked of models, and what came: recorded when it starts, and again when it ends.

    started -> finished     with an answer, files, usage, the reason of the end
            -> cut          cancelled, crashed, or its process was killed

Whoever acknowledges an answer calls `finish` first: what was finished outlives any kill.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.orm import Session

from morphogen.core.errors import RecordsError
from morphogen.records.database import Database
from morphogen.records.generation import Generation, Reader
from morphogen.records.processes import is_over, this_process
from morphogen.records.prompts import TEXT, Message, Prompts
from morphogen.records.quotas import Quotas
from morphogen.records.sealing import Seals
from morphogen.records.tables import Artefact, Model, Word
from morphogen.records.tables import Evaluation as EvaluationRow
from morphogen.records.tables import Generation as Row
from morphogen.records.words import terms

# Made once: of the time that a call is on its way, making and mapping these was the largest part.
ROWS: Any = Row.__table__
GIVEN: Any = bindparam("given")
INSERT = insert(ROWS).returning(ROWS.c.id)
ASKED = select(
    ROWS.c.id, ROWS.c.uid, ROWS.c.state, ROWS.c.user_id, ROWS.c.key_id, ROWS.c.prompt_id
).where(ROWS.c.uid == GIVEN)
UPDATE = update(ROWS).where(ROWS.c.id == GIVEN)
MODEL = select(Model.__table__.c.id).where(Model.__table__.c.hash == GIVEN)
JUDGED: Any = EvaluationRow.__table__
VERDICT = (
    select(JUDGED.c.verdict).where(JUDGED.c.model_id == GIVEN).order_by(JUDGED.c.id.desc()).limit(1)
)


class Generations:
    """The generations of an installation; what was recorded is found with `search`."""

    def __init__(
        self, database: Database, seals: Seals, prompts: Prompts, reader: Reader, quotas: Quotas
    ) -> None:
        self.database, self.seals = database, seals
        self.prompts, self.reader, self.quotas = prompts, reader, quotas

    def start(
        self,
        prompt: str | Sequence[Message] = (),
        *,
        model: str,
        task: str,
        model_hash: str | None = None,
        verdict: str | None = None,
        parent: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        seed: int | None = None,
        template: int | None = None,
        user: int | None = None,
        key: int | None = None,
        uid: str | None = None,
    ) -> str:
        """Record that a model is asked; returns the id of the generation. Raises `QuotaError` where
        the key has used up what it may ask for.

        `prompt` is a text or messages, `parent` the node that they follow (see `prompts`), and
        `verdict` that of the model's last evaluation: by default as recorded for `model_hash`;
        `uid` is the id, where whoever asks has made one already.
        """
        if isinstance(prompt, str):
            prompt = [Message.of("prompt", prompt)] if prompt else []
        messages = list(prompt)
        uid = uid or os.urandom(10).hex()
        with self.database.write() as session:
            if key is not None:
                self.quotas.take(session, key)
            values: dict[str, Any] = {
                "uid": uid, "user_id": user, "key_id": key, "template_id": template,
                "model_name": model, "model_hash": model_hash, "task": task, "seed": seed,
                "state": "started", "started": time.time(), "process": this_process(),
                "prompt_id": parent, "parameters": None,
            }  # fmt: skip
            values |= self._model(session, model_hash, verdict)
            if messages:
                values["prompt_id"] = self.prompts.add(session, messages, user=user, parent=parent)
            if parameters:
                sealed = (session, user, dict(parameters), f"parameters {uid}")
                values["parameters"] = self.seals.seal_json(*sealed)
            number = session.execute(INSERT, values).scalar_one()
            self._index(session, number, messages[-1:])
        return uid

    def finish(
        self,
        uid: str,
        answer: str | Message | None = None,
        *,
        reason: str = "stop",
        usage: Mapping[str, Any] | None = None,
        files: Iterable[Path | str] = (),
    ) -> None:
        """Record what came: an answer, files that were written, what it took."""
        self._end(uid, "finished", answer, reason, usage=usage, files=files)

    def cut(self, uid: str, reason: str, answer: str | Message | None = None, **usage: Any) -> None:
        """Record that it ended before its end, and what there was of an answer."""
        self._end(uid, "cut", answer, reason, usage=usage, files=())

    def cut_abandoned(self) -> int:
        """Record as cut what processes were making that have ended since; returns how many.

        A server calls it when it starts: after a kill, its own of before are among them.
        """
        with self.database.write() as session:
            rows = list(session.scalars(select(Row).where(Row.state == "started")))
            gone = [row for row in rows if is_over(row.process)]
            for row in gone:
                row.state, row.reason, row.process = "cut", "its process ended", None
                row.finished = time.time()
        return len(gone)

    def get(self, uid: str) -> Generation:
        """One generation with its whole prompt, answer, files and annotations.

        Raises `RecordsError` where there is none of this id.
        """
        with self.database.read() as session:
            return self.reader.whole(session, self.row(session, uid))

    def of_answers(self, nodes: Sequence[int]) -> dict[int, str]:
        """The generations that made answers, by their nodes: the last of each."""
        with self.database.read() as session:
            query = select(Row.answer_id, Row.uid).where(Row.answer_id.in_(nodes)).order_by(Row.id)
            return {int(node): uid for node, uid in session.execute(query) if node is not None}

    def row(self, session: Session, uid: str) -> Row:
        """The row of an id."""
        return self.rows(session, [uid])[0]

    def rows(self, session: Session, uids: Sequence[str]) -> list[Row]:
        """The rows of ids, in their order."""
        found = {row.uid: row for row in session.scalars(select(Row).where(Row.uid.in_(uids)))}
        for uid in uids:
            if uid not in found:
                raise _unknown(uid)
        return [found[uid] for uid in uids]

    def index_again(self, session: Session, number: int) -> None:
        """Let a generation be found by what there still is of it: something was erased."""
        session.execute(delete(Word).where(Word.generation_id == number))
        row = session.get(Row, number)
        if row is not None:
            (found,) = self.reader.many(session, [row])
            said = [found.text, *(each.explanation for each in found.annotations)]
            add_words(session, self.database, self.seals, number, said)

    # -- rows ------------------------------------------------------------------------------------

    def _end(
        self,
        uid: str,
        state: str,
        answer: str | Message | None,
        reason: str,
        *,
        usage: Mapping[str, Any] | None,
        files: Iterable[Path | str],
    ) -> None:
        message = Message.of("assistant", answer) if isinstance(answer, str) else answer
        with self.database.write() as session:
            row = session.execute(ASKED, {"given": uid}).first()
            if row is None:
                raise _unknown(uid)
            if row.state != "started":
                raise RecordsError(f"this generation is {row.state} already", found=uid)
            told = dict(usage or {})
            values: dict[str, Any] = {
                "state": state, "reason": reason, "finished": time.time(), "usage": told,
                "process": None, "answer_id": None,
            }  # fmt: skip
            if row.key_id is not None:
                self.quotas.spend(session, row.key_id, told)
            if message is not None:
                values["answer_id"] = self.prompts.add(
                    session, [message], user=row.user_id, parent=row.prompt_id
                )
                self._index(session, row.id, [message])
            session.execute(UPDATE, {"given": row.id, **values})
            for file in files:
                session.add(self._artefact(session, row, Path(file)))

    def _model(
        self, session: Session, model_hash: str | None, verdict: str | None
    ) -> dict[str, Any]:
        """The columns of a generation that say by which model it is, as far as it is known."""
        if model_hash is None:
            return {"model_id": None, "verdict": verdict}
        number = session.execute(MODEL, {"given": model_hash}).scalar()
        if verdict is None and number is not None:
            verdict = session.execute(VERDICT, {"given": number}).scalar()
        return {"model_id": number, "verdict": verdict}

    def _artefact(self, session: Session, row: Any, path: Path) -> Artefact:
        with path.open("rb") as file:
            digest = self.seals.blind("file", hashlib.file_digest(file, "sha256").digest())
        place = str(path.absolute()).encode(errors="surrogateescape")
        sealed = self.seals.seal(session, row.user_id, place, f"artefact {row.uid}")
        return Artefact(generation_id=row.id, digest=digest, suffix=path.suffix, place=sealed)

    def _index(self, session: Session, number: int, messages: Iterable[Message]) -> None:
        texts = (f.text for m in messages for f in m.fragments if f.kind == TEXT)
        add_words(session, self.database, self.seals, number, texts)


def _unknown(uid: str) -> RecordsError:
    return RecordsError("there is no such generation", found=uid, hint="morphogen records search")


def add_words(
    session: Session, database: Database, seals: Seals, number: int, texts: Iterable[str]
) -> None:
    """Let a generation be found by the words of these texts."""
    found = {word_hash(seals, term) for text in texts for term in terms(text)}
    if found:
        rows = [{"word": word, "generation_id": number} for word in sorted(found)]
        database.insert_all_new(session, Word, rows)


def word_hash(seals: Seals, term: str) -> int:
    """What stands for a word in the index: 64 bits of its keyed hash."""
    return int.from_bytes(seals.blind("word", term)[:8], "little", signed=True)
