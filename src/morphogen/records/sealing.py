r"""Contents encrypted at rest, addresses of contents, and what can be searched of them.

Every value is encrypted with AES-GCM by a *data key*: one for each person and one for the
installation itself (envelope encryption). Data keys lie in the database, wrapped with the
installation's key, which does not (see `keyring`). To forget a person is to forget a key.

    sealed   = key number (8 bytes), nonce (12), ciphertext with tag; opened under its purpose
    address  = HMAC(index key, owner, content): equal contents of one owner are one
    blind    = HMAC(index key, purpose, value): found by who knows the value and holds the key

The index key is a data key too. It stays the same when the others are rotated.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import struct
import threading
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import bindparam, delete, select
from sqlalchemy.orm import Session

from morphogen.core.errors import RecordsError
from morphogen.records.database import Database
from morphogen.records.keyring import NONCE, SIZE, Keyring
from morphogen.records.tables import DataKey, Setting

HEAD = struct.Struct("<q")  # the number of the data key
NEEDED = "key"  # the setting that says which key the records need
HOUSE = None  # whose contents the installation's own are
KEYS = DataKey.__table__
NEWEST = (
    select(KEYS.c.id)
    .where(KEYS.c.purpose == "content")
    .order_by(KEYS.c.id.desc())
    .limit(1)
    .with_for_update(read=True, key_share=True)
)
NEWEST_OF_HOUSE = NEWEST.where(KEYS.c.user_id.is_(None))
NEWEST_OF_OWNER = NEWEST.where(KEYS.c.user_id == bindparam("owner"))


class Seals:
    """Seals and opens the contents of one database."""

    def __init__(self, database: Database, ring: Keyring) -> None:
        self.database, self.ring = database, ring
        self._lock = threading.Lock()
        self._ciphers: dict[int, AESGCM] = {}
        self._index = b""

    # -- contents --------------------------------------------------------------------------------

    def seal(self, session: Session, owner: int | None, value: bytes, purpose: str) -> bytes:
        """Encrypt a value of an owner. Raises `RecordsError` where the owner was forgotten."""
        number, cipher = self._sealing(session, owner)
        nonce = os.urandom(NONCE)
        return HEAD.pack(number) + nonce + cipher.encrypt(nonce, value, purpose.encode())

    def open(self, session: Session, sealed: bytes | None, purpose: str) -> bytes | None:
        """The value, or None where there is none any more: its key was forgotten.

        Raises `RecordsError` for what was changed, or moved from another place.
        """
        if sealed is None:
            return None
        (number,) = HEAD.unpack_from(sealed)
        cipher = self._cipher(session, number)
        if cipher is None:
            return None
        start = HEAD.size + NONCE
        try:
            return cipher.decrypt(sealed[HEAD.size : start], sealed[start:], purpose.encode())
        except InvalidTag as error:
            raise RecordsError(
                "a content of the records was changed",
                found=purpose,
                where=self.database.name,
                hint="morphogen records verify; morphogen records restore BACKUP",
            ) from error

    def seal_again(self, session: Session, sealed: bytes, purpose: str) -> bytes | None:
        """A sealed value under the newest key of its owner; None where it was forgotten."""
        (number,) = HEAD.unpack_from(sealed)
        key = session.get(DataKey, number)
        value = self.open(session, sealed, purpose)
        if key is None or value is None:
            return None
        return self.seal(session, key.user_id, value, purpose)

    def seal_json(self, session: Session, owner: int | None, value: Any, purpose: str) -> bytes:
        """Encrypt what JSON can hold; what it has no word for as text."""
        return self.seal(session, owner, json.dumps(value, default=str).encode(), purpose)

    def open_json(self, session: Session, sealed: bytes | None, purpose: str) -> Any:
        """The value, or None; see `open`."""
        value = self.open(session, sealed, purpose)
        return None if value is None else json.loads(value)

    # -- what is searched ------------------------------------------------------------------------

    def blind(self, purpose: str, value: str | bytes) -> bytes:
        """A keyed hash by which a value is found again, (32 bytes)."""
        data = value.encode(errors="surrogateescape") if isinstance(value, str) else value
        return hmac.digest(self._index, purpose.encode() + b"\0" + data, hashlib.sha256)

    def address(self, owner: int | None, *parts: bytes) -> bytes:
        """Where a content of an owner is kept: the same for the same content, (32 bytes)."""
        lengths = b"".join(struct.pack("<q", len(part)) for part in parts)
        return self.blind(f"address {owner}", lengths + b"".join(parts))

    # -- keys ------------------------------------------------------------------------------------

    def new_key(self, session: Session, owner: int | None, purpose: str = "content") -> None:
        """Give an owner a key of their own; what comes is sealed with it."""
        needed = session.get(Setting, NEEDED)
        if needed is not None and not self.ring.prefer(needed.value):
            self.ring.reload()  # it was rotated by another process
            self.ring.prefer(needed.value)
        name = os.urandom(8).hex()
        wrapped = self.ring.wrap(os.urandom(SIZE), name)
        session.add(DataKey(name=name, user_id=owner, purpose=purpose, wrapped=wrapped))
        session.flush()
        session.info.get(self, {}).pop(owner, None)

    def forget(self, session: Session, owner: int) -> list[str]:
        """Forget an owner's keys, here and in every backup that is put back later."""
        names = list(session.scalars(select(DataKey.name).where(DataKey.user_id == owner)))
        session.execute(delete(DataKey).where(DataKey.user_id == owner))
        session.info.get(self, {}).pop(owner, None)
        with self.ring.alone():
            self.ring.forgotten.update(names)
            self.ring.save()
        self.reset()
        return names

    def reset(self) -> None:
        """Read the keys anew: others were made or forgotten."""
        with self._lock:
            self._ciphers.clear()

    def load_index(self, session: Session) -> None:
        """Read the key of addresses and words."""
        row = session.scalars(select(DataKey).where(DataKey.purpose == "index")).one()
        self._index = self.ring.unwrap(row.wrapped, row.name)

    def _sealing(self, session: Session, owner: int | None) -> tuple[int, AESGCM]:
        # Asked in every transaction: another process may have made a newer key meanwhile, or
        # forgotten the person. PostgreSQL keeps the key's row until this transaction ends.
        known: dict[int | None, int] = session.info.setdefault(self, {})
        number = known.get(owner)
        if number is None:
            newest = NEWEST_OF_HOUSE if owner is HOUSE else NEWEST_OF_OWNER
            found = session.execute(newest, {} if owner is HOUSE else {"owner": owner}).scalar()
            if found is None:
                raise RecordsError(
                    "nothing more is recorded of a person who was erased", where=self.database.name
                )
            number = known[owner] = found
        cipher = self._cipher(session, number)
        assert cipher is not None
        return number, cipher

    def _cipher(self, session: Session, number: int) -> AESGCM | None:
        with self._lock:
            if (cipher := self._ciphers.get(number)) is not None:
                return cipher
        row = session.get(DataKey, number)
        if row is None or row.name in self.ring.forgotten:
            return None
        try:
            cipher = AESGCM(self.ring.unwrap(row.wrapped, row.name))
        except RecordsError:
            self.ring.reload()  # it was rotated by another process
            cipher = AESGCM(self.ring.unwrap(row.wrapped, row.name))
        with self._lock:
            self._ciphers[number] = cipher
        return cipher
