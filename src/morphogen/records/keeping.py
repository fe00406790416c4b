"""How long records are kept, and whom they forget.

Retention takes whole generations away, with their words and files' names; people's ratings keep
those that they rated, where the rule says so. Erasure forgets a person: their name, their key and
with it all that they asked, were answered and wrote, here and in every backup that is put back.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, exists, func, or_, select, text, update
from sqlalchemy.orm import Session

from morphogen.core.errors import RecordsError
from morphogen.records.tables import (
    Annotation,
    ApiKey,
    Artefact,
    DatasetPair,
    Fragment,
    Generation,
    Made,
    PromptPart,
    Rule,
    SignIn,
    User,
)

if TYPE_CHECKING:
    from morphogen.records.records import Records

KINDS = {
    "generations": "what nobody rated and no dataset holds",
    "rated": "generations that were rated, or went into a dataset",
    "sign_ins": "sessions of browsers",
}


class Keeping:
    """The rules of an installation, and what they do."""

    def __init__(self, records: Records) -> None:
        self.records, self.database = records, records.database

    # -- rules -----------------------------------------------------------------------------------

    def rules(self) -> dict[str, float]:
        """Seconds that each kind is kept; what has no rule is kept."""
        with self.database.read() as session:
            return {row.kind: row.seconds for row in session.scalars(select(Rule))}

    def set(self, kind: str, seconds: float | None, *, by: int | None = None) -> None:
        """Keep a kind of records for so long, or, with None, for ever."""
        if kind not in KINDS:
            raise RecordsError(
                f"there is no rule for {kind!r}",
                expected="; ".join(f"{name}: {what}" for name, what in KINDS.items()),
            )
        with self.database.write() as session:
            session.execute(delete(Rule).where(Rule.kind == kind))
            if seconds is not None:
                session.add(Rule(kind=kind, seconds=seconds))
            self.records.audit.add(session, "records.keep", kind, user=by, seconds=seconds)

    def apply(self, *, now: float | None = None, by: int | None = None) -> dict[str, int]:
        """Take away what is older than its rule; returns how many of each kind."""
        now = time.time() if now is None else now
        gone: dict[str, Any] = {}
        rules = self.rules()
        with self.database.write() as session:
            held = or_(
                exists().where(Annotation.generation_id == Generation.id),
                exists().where(DatasetPair.generation_id == Generation.id),
            )
            for kind, clause in {"generations": ~held, "rated": held}.items():
                if kind in rules:
                    old = select(Generation.id).where(
                        Generation.started < now - rules[kind], Generation.state != "started"
                    )
                    gone[kind] = remove(session, list(session.scalars(old.where(clause))))
            if "sign_ins" in rules:
                old_ones = delete(SignIn).where(SignIn.created < now - rules["sign_ins"])
                gone["sign_ins"] = session.execute(old_ones).rowcount  # type: ignore[attr-defined]
            self.records.audit.add(session, "records.clean", "", user=by, **gone)
        self.database.settle()
        return gone

    # -- people ----------------------------------------------------------------------------------

    def erase(self, who: str | int, *, by: int | None = None) -> int:
        """Forget a person; returns how many of their generations have no contents any more."""
        user = self.records.users.get(who)
        with self.database.write() as session:
            mine = select(Generation.id).where(Generation.user_id == user.id)
            num = session.scalars(select(func.count()).select_from(mine.subquery())).one()
            wrote = select(Annotation.generation_id).where(Annotation.user_id == user.id)
            touched = list(session.scalars(wrote.where(Annotation.explanation.is_not(None))))
            session.execute(delete(Artefact).where(Artefact.generation_id.in_(mine)))
            session.execute(delete(Fragment).where(Fragment.user_id == user.id))
            session.execute(
                update(Generation).where(Generation.user_id == user.id).values(parameters=None)
            )
            session.execute(
                update(Annotation).where(Annotation.user_id == user.id).values(explanation=None)
            )
            session.execute(update(Made).where(Made.user_id == user.id).values(entries=None))
            for number in [*session.scalars(mine), *touched]:
                self.records.generations.index_again(session, number)
            for table in (ApiKey, SignIn):
                session.execute(delete(table).where(table.user_id == user.id))
            values = {"name": None, "blind": None, "password": None, "state": "erased",
                      "groups": ""}  # fmt: skip
            session.execute(update(User).where(User.id == user.id).values(**values))
            self.records.audit.add(session, "users.erase", f"user {user.id}", user=by, num=num)
            self.records.seals.forget(session, user.id)
        self.database.settle()
        return num


def remove(session: Session, numbers: list[int]) -> int:
    """Take generations away, with what nothing else refers to then; returns how many."""
    for start in range(0, len(numbers), 500):
        some = numbers[start : start + 500]
        session.execute(delete(Generation).where(Generation.id.in_(some)))
    if numbers:
        _sweep(session)
    return len(numbers)


def _sweep(session: Session) -> None:
    """Messages that no conversation leads to, and fragments of no message."""
    used = text(
        "WITH RECURSIVE used(id) AS ("
        " SELECT prompt_id FROM generations WHERE prompt_id IS NOT NULL"
        " UNION SELECT answer_id FROM generations WHERE answer_id IS NOT NULL"
        " UNION SELECT p.parent_id FROM prompts p JOIN used u ON p.id = u.id"
        " WHERE p.parent_id IS NOT NULL)"
        " DELETE FROM prompts WHERE id NOT IN (SELECT id FROM used)"
    )
    session.execute(used)
    session.execute(delete(Fragment).where(~exists().where(PromptPart.fragment_id == Fragment.id)))
