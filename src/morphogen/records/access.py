"""Keys for programs and sessions for browsers: both are long random words, kept as hashes alone.

    mg-...    a key: shown once when it is made    ms-...    a session, in a cookie

A word of 256 random bits cannot be guessed, so that one keyed hash of it is enough, and quick.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from morphogen.core.errors import AccessError, RecordsError, did_you_mean
from morphogen.records.audit import Audit
from morphogen.records.database import Database
from morphogen.records.people import User, Users
from morphogen.records.roles import actions_of, check_action
from morphogen.records.sealing import Seals
from morphogen.records.tables import ApiKey, SignIn
from morphogen.records.tables import User as UserRow

KEY, SESSION = "mg-", "ms-"
USED_EVERY = 60.0  # seconds between notes that a key is in use
LASTING = 14 * 86400.0  # seconds that a session lasts


@dataclass(frozen=True)
class Access:
    """Who asks, and what they may do: what a person may, and their key too."""

    user: User
    actions: frozenset[str]
    key_id: int | None = None
    key_name: str | None = None

    def check(self, action: str) -> None:
        """Raise `AccessError` where they may not, see `roles`."""
        check_action(action, self.actions, self.key_name or self.user.name)


@dataclass(frozen=True)
class Key:
    """What is known of a key."""

    id: int
    name: str
    user: str
    role: str
    created: float
    expires: float | None
    revoked: float | None
    used: float | None  # within a minute

    @property
    def state(self) -> str:
        """active, expired or revoked."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= time.time() else "active"


class Keys:
    """The keys of an installation."""

    def __init__(self, database: Database, seals: Seals, audit: Audit, users: Users) -> None:
        self.database, self.seals, self.audit, self.users = database, seals, audit, users

    def new(
        self,
        name: str,
        role: str = "generate",
        *,
        user: str | int | None = None,
        expires: float | None = None,
        by: int | None = None,
    ) -> tuple[Key, str]:
        """A key of a user (default: who works here) that `expires` in so many seconds, and its
        secret word, which cannot be shown again."""
        actions_of(role)
        owner = self.users.local() if user is None else self.users.get(user)
        word = KEY + secrets.token_urlsafe(32)
        now = time.time()
        with self.database.write() as session:
            if self._named(session, name, active=True):
                raise RecordsError(
                    f"there is a key {name!r} already", hint=f"morphogen keys revoke {name}"
                )
            row = ApiKey(
                name=name, hash=self.seals.blind("key", word), user_id=owner.id, role=role,
                expires=None if expires is None else now + expires,
            )  # fmt: skip
            session.add(row)
            session.flush()
            self.audit.add(session, "keys.new", f"key {row.id}", user=by, role=role, of=owner.id)
            return self._key(session, row), word

    def authenticate(self, word: str) -> Access:
        """Whose key it is. Raises `AccessError` for one that is unknown, expired or revoked."""
        with self.database.read() as session:
            found = session.execute(
                select(ApiKey, UserRow)
                .join(UserRow, ApiKey.user_id == UserRow.id)
                .where(ApiKey.hash == self.seals.blind("key", word))
            ).first()
            if found is None:
                raise AccessError("the key is not known", hint="morphogen keys new NAME")
            row, owner = found
            key = self._key(session, row)
            user = self.users._user(session, owner)
        if key.state != "active" or user.state != "active":
            why = key.state if key.state != "active" else f"of a user who is {user.state}"
            raise AccessError(f"the key {key.name!r} is {why}", hint="morphogen keys new NAME")
        if key.used is None or abs(time.time() - key.used) > USED_EVERY:
            with self.database.write() as session:
                session.execute(update(ApiKey).where(ApiKey.id == key.id).values(used=time.time()))
        return Access(user, user.actions & actions_of(key.role), key.id, key.name)

    def revoke(self, which: str | int, *, by: int | None = None) -> Key:
        """Let a key in no more. Raises `RecordsError` where there is none."""
        with self.database.write() as session:
            row = self._known(session, which)
            row.revoked = row.revoked or time.time()
            self.audit.add(session, "keys.revoke", f"key {row.id}", user=by)
            return self._key(session, row)

    def named(self, which: str | int) -> Key:
        """The newest key of a name, or that of a number. Raises `RecordsError` for none."""
        with self.database.read() as session:
            return self._key(session, self._known(session, which))

    def all(self) -> list[Key]:
        """Every key there ever was."""
        with self.database.read() as session:
            rows = session.scalars(select(ApiKey).order_by(ApiKey.id))
            return [self._key(session, row) for row in rows]

    def _known(self, session: Session, which: str | int) -> ApiKey:
        by_number = isinstance(which, int)
        row = session.get(ApiKey, which) if by_number else self._named(session, str(which))
        if row is None:
            names = list(session.scalars(select(ApiKey.name)))
            raise RecordsError(
                f"there is no key {which!r}.{did_you_mean(str(which), names)}",
                hint="morphogen keys list",
            )
        return row

    def _named(self, session: Session, name: str, *, active: bool = False) -> ApiKey | None:
        query = select(ApiKey).where(ApiKey.name == name).order_by(ApiKey.id.desc())
        if active:
            unexpired = or_(ApiKey.expires.is_(None), ApiKey.expires > time.time())
            query = query.where(ApiKey.revoked.is_(None), unexpired)
        return session.scalars(query.limit(1)).first()

    def _key(self, session: Session, row: ApiKey) -> Key:
        owner = session.get(UserRow, row.user_id)
        name = self.users.name_of(session, owner) if owner else "erased"
        return Key(
            row.id, row.name, name, row.role, row.created, row.expires, row.revoked, row.used
        )


class SignIns:
    """Who is signed in in a browser."""

    def __init__(self, database: Database, seals: Seals, users: Users) -> None:
        self.database, self.seals, self.users = database, seals, users

    def new(self, user: User, *, seconds: float = LASTING) -> str:
        """Begin a session; returns its secret word, for a cookie."""
        word = SESSION + secrets.token_urlsafe(32)
        now = time.time()
        with self.database.write() as session:
            session.execute(delete(SignIn).where(SignIn.expires <= now))
            row = SignIn(hash=self._hash(word), user_id=user.id, created=now, expires=now + seconds)
            session.add(row)
        return word

    def authenticate(self, word: str) -> Access:
        """Whose session it is. Raises `AccessError` for one that is unknown or over."""
        with self.database.read() as session:
            found = session.execute(
                select(SignIn, UserRow)
                .join(UserRow, SignIn.user_id == UserRow.id)
                .where(SignIn.hash == self._hash(word))
            ).first()
            # A clock that was set back does not make a session last longer.
            if found is None or not found[0].created - 60 <= time.time() < found[0].expires:
                raise AccessError("the session is over", hint="sign in again")
            user = self.users._user(session, found[1])
        if user.state != "active":
            raise AccessError("the session is over", hint="sign in again")
        return Access(user, user.actions)

    def end(self, word: str) -> None:
        """End a session: its word lets nobody in any more."""
        with self.database.write() as session:
            session.execute(delete(SignIn).where(SignIn.hash == self._hash(word)))

    def _hash(self, word: str) -> bytes:
        return self.seals.blind("session", word)
