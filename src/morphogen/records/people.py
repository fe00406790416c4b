"""The people of an installation: their roles and passwords. A name is encrypted like a content."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from sqlalchemy import select
from sqlalchemy.orm import Session

from morphogen.core.errors import AccessError, RecordsError, did_you_mean
from morphogen.records.audit import Audit
from morphogen.records.database import Database
from morphogen.records.roles import actions_of
from morphogen.records.sealing import Seals
from morphogen.records.tables import User as Row

MEMORY, PASSES = 19456, 2  # KiB: what OWASP recommends
LEAST_PASSWORD = 10  # letters
GROUP = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True)
class User:
    """A person, or a program that acts as one."""

    id: int
    name: str  # "erased" where the person was
    role: str
    state: str  # active, disabled, erased
    created: float
    groups: tuple[str, ...] = ()  # whose documents they may read, beside those of everyone

    @property
    def actions(self) -> frozenset[str]:
        """What they may do, see `roles`; nothing unless they are active."""
        return actions_of(self.role) if self.state == "active" else frozenset()


class Users:
    """The people of an installation."""

    def __init__(self, database: Database, seals: Seals, audit: Audit) -> None:
        self.database, self.seals, self.audit = database, seals, audit

    def add(
        self, name: str, role: str = "reader", *, password: str | None = None, by: int | None = None
    ) -> User:
        """A new person. Raises `RecordsError` for a name that is taken."""
        actions_of(role)
        if not name.strip() or len(name) > 200 or not name.isprintable():
            raise RecordsError("this is no name for a person", found=repr(name[:200]))
        with self.database.write() as session:
            if self._row(session, name) is not None:
                raise RecordsError(
                    f"there is a user {name!r} already", hint=f"morphogen users role {name} {role}"
                )
            row = Row(role=role, blind=self.seals.blind("user", name))
            row.password = None if password is None else _hashed(password)
            session.add(row)
            session.flush()
            self.seals.new_key(session, row.id)
            row.name = self.seals.seal(session, row.id, name.encode(), f"user {row.id}")
            self.audit.add(session, "users.add", f"user {row.id}", user=by, role=role)
            return self._user(session, row)

    def local(self) -> User:
        """Who works at this machine: a user with the system's name, who may do all. Whoever can
        read the key file can."""
        try:
            name = getpass.getuser()
        except (KeyError, OSError):
            name = f"user{os.getuid()}" if hasattr(os, "getuid") else "local"
        if (found := self._found(name)) is not None:
            return found
        try:
            return self.add(name, "administrator")
        except RecordsError:
            if (found := self._found(name)) is None:
                raise
            return found  # another process was quicker

    def _found(self, name: str) -> User | None:
        with self.database.read() as session:
            row = self._row(session, name)
            return None if row is None else self._user(session, row)

    def get(self, who: str | int) -> User:
        """The person of a name or number. Raises `RecordsError` where there is none."""
        with self.database.read() as session:
            return self._user(session, self._known(session, who))

    def all(self) -> list[User]:
        """Everyone, the erased included, in the order in which they came."""
        with self.database.read() as session:
            rows = session.scalars(select(Row).order_by(Row.id))
            return [self._user(session, row) for row in rows]

    def set_role(self, who: str | int, role: str, *, by: int | None = None) -> User:
        """Give a person another role."""
        actions_of(role)
        return self._change(who, "users.role", by, role=role)

    def set_groups(self, who: str | int, groups: Iterable[str], *, by: int | None = None) -> User:
        """Say whose documents a person may read (see `systems.knowledge`), in place of those of
        before. Raises `RecordsError` for what is no word."""
        named = sorted(set(groups))
        for group in named:
            if not GROUP.fullmatch(group):
                raise RecordsError(
                    "this is no name for a group", found=repr(group[:80]),
                    expected="letters, digits and . _ -",
                )  # fmt: skip
        return self._change(who, "users.groups", by, groups=" ".join(named))

    def disable(self, who: str | int, *, by: int | None = None) -> User:
        """Let a person in no more; what is recorded of them stays."""
        return self._change(who, "users.disable", by, state="disabled")

    def enable(self, who: str | int, *, by: int | None = None) -> User:
        """Let a person in again."""
        return self._change(who, "users.enable", by, state="active")

    def set_password(self, who: str | int, password: str, *, by: int | None = None) -> User:
        """Let a person sign in with this password."""
        return self._change(who, "users.password", by, password=_hashed(password))

    def sign_in(self, name: str, password: str) -> User:
        """The person whose name and password these are.

        Raises `AccessError`, which does not tell which of the two is wrong; nor does the time that
        it takes.
        """
        with self.database.read() as session:
            row = self._row(session, name)
            kept = row.password if row is not None and row.state == "active" else None
            try:
                Argon2id.verify_phc_encoded(password.encode(), kept or _nobody())
            except InvalidKey:
                kept = None
            if row is None or kept is None:
                raise AccessError("name or password is wrong")
            return self._user(session, row)

    # -- rows ------------------------------------------------------------------------------------

    def name_of(self, session: Session, row: Row) -> str:
        """A person's name, or "erased"."""
        name = self.seals.open(session, row.name, f"user {row.id}")
        return name.decode() if name else "erased"

    def _user(self, session: Session, row: Row) -> User:
        groups = tuple(row.groups.split())
        return User(row.id, self.name_of(session, row), row.role, row.state, row.created, groups)

    def _row(self, session: Session, name: str) -> Row | None:
        return session.scalars(
            select(Row).where(Row.blind == self.seals.blind("user", name))
        ).first()

    def _known(self, session: Session, who: str | int) -> Row:
        row = session.get(Row, who) if isinstance(who, int) else self._row(session, who)
        if row is None:
            names = [self.name_of(session, each) for each in session.scalars(select(Row))]
            raise RecordsError(
                f"there is no user {who!r}.{did_you_mean(str(who), names)}",
                expected=", ".join(names[:20]),
                hint="morphogen users list",
            )
        return row

    def _change(self, who: str | int, action: str, by: int | None, **values: str) -> User:
        with self.database.write() as session:
            row = self._known(session, who)
            if row.state == "erased":
                raise RecordsError("this person was erased", hint="morphogen users add NAME")
            for name, value in values.items():
                setattr(row, name, value)
            told = {name: value for name, value in values.items() if name != "password"}
            self.audit.add(session, action, f"user {row.id}", user=by, **told)
            return self._user(session, row)


def _hashed(password: str) -> str:
    if len(password) < LEAST_PASSWORD:
        raise RecordsError(
            "the password is too short",
            found=f"{len(password)} letters",
            expected=f"{LEAST_PASSWORD} at least",
        )
    salt = os.urandom(16)
    kdf = Argon2id(salt=salt, length=32, iterations=PASSES, lanes=1, memory_cost=MEMORY)
    return kdf.derive_phc_encoded(password.encode())


_NOBODY: list[str] = []


def _nobody() -> str:
    """A hash that no password has: checking against it takes as long as against a real one."""
    if not _NOBODY:
        _NOBODY.append(_hashed(os.urandom(16).hex()))
    return _NOBODY[0]
