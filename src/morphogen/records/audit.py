r"""The audit log: who did what when, chained so that no line can be changed, moved or taken out.

    chain_n = HMAC(index key, chain_{n-1}, number, time, user, action, subject, facts)

The key is not in the database, so that nobody who can write there can make a chain that holds. The
head of the chain is kept beside it: lines taken from the end are missed. Whoever wants to be sure
that not even a whole older database was put in its place notes the head elsewhere: `records verify`
prints it. Lines hold numbers of people and things, no contents and no names of people.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from morphogen.records.database import Database
from morphogen.records.sealing import Seals
from morphogen.records.tables import AuditEntry, Setting

HEAD = "audit.head"
TURN = 0x6D6F7270  # writers take turns under this number
PAGE = 1000


@dataclass(frozen=True)
class Verdict:
    """Whether the log is whole."""

    num: int
    head: str  # of the chain, for who notes it elsewhere
    broken: tuple[str, ...] = ()  # what is wrong, first things first

    @property
    def is_whole(self) -> bool:
        """Whether nothing was changed, moved or taken out."""
        return not self.broken


@dataclass(frozen=True)
class Line:
    """One line of the log."""

    id: int
    time: float
    user: int | None
    action: str
    subject: str
    facts: Mapping[str, Any]


class Audit:
    """The log of one installation."""

    def __init__(self, database: Database, seals: Seals) -> None:
        self.database, self.seals = database, seals

    def note(
        self, action: str, subject: str = "", *, user: int | None = None, **facts: Any
    ) -> None:
        """Add a line. `facts` are what JSON can hold, and nothing that a person wrote."""
        with self.database.write() as session:
            self.add(session, action, subject, user=user, **facts)

    def add(
        self, session: Session, action: str, subject: str = "", *, user: int | None = None,
        **facts: Any,
    ) -> None:  # fmt: skip
        """Add a line in the transaction of what it tells of: both are kept, or neither."""
        self.database.take_turns(session, TURN)
        head = session.get(Setting, HEAD)
        number, _, before = (head.value if head else "0:").partition(":")
        line = Line(int(number) + 1, time.time(), user, action, subject, facts)
        chain = self._chain(bytes.fromhex(before), line)
        session.add(
            AuditEntry(
                id=line.id, time=line.time, user_id=user, action=action, subject=subject,
                facts=facts, chain=chain,
            )
        )  # fmt: skip
        session.merge(Setting(name=HEAD, value=f"{line.id}:{chain.hex()}"))
        session.flush()

    def lines(self, *, since: float = 0.0, limit: int = 100) -> list[Line]:
        """The newest lines, newest first."""
        with self.database.read() as session:
            rows = session.scalars(
                select(AuditEntry)
                .where(AuditEntry.time >= since)
                .order_by(AuditEntry.id.desc())
                .limit(limit)
            )
            return [_line(row) for row in rows]

    def verify(self) -> Verdict:
        """Go through the whole chain."""
        broken: list[str] = []
        number, before = 0, b""
        with self.database.read() as session:
            head = session.get(Setting, HEAD)
            while rows := list(
                session.scalars(
                    select(AuditEntry)
                    .where(AuditEntry.id > number)
                    .order_by(AuditEntry.id)
                    .limit(PAGE)
                )
            ):
                for row in rows:
                    if row.id != number + 1:
                        broken.append(f"lines {number + 1} to {row.id - 1} were taken out")
                    elif row.chain != self._chain(before, _line(row)):
                        broken.append(f"line {row.id} was changed, or those before it")
                    number, before = row.id, row.chain
                session.expunge_all()
        told = head.value if head else "0:"
        if told != f"{number}:{before.hex()}":
            broken.append(f"the log ends at line {number}, its head tells of {told.split(':')[0]}")
        return Verdict(number, told, tuple(broken))

    def _chain(self, before: bytes, line: Line) -> bytes:
        told = [line.id, repr(line.time), line.user, line.action, line.subject, line.facts]
        return self.seals.blind("audit", before + json.dumps(told, sort_keys=True).encode())


def _line(row: AuditEntry) -> Line:
    return Line(row.id, row.time, row.user_id, row.action, row.subject, row.facts)
