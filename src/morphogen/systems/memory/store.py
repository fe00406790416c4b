"""Notes on disk, each sealed with a key of its own.

    memory.json      the version of the format, who embeds, the language of stems
    notes.sqlite     sealed notes and their vectors; which files hold what of them outside
    keys.sqlite      a key for each note: 32 bytes, at random

A note is sealed by AES-GCM under its id. Nothing else is on disk: what is searched is made in
memory when a memory is opened, so that no posting, log or cache holds a word. To forget a note is
to overwrite its row and its key; a copy of `notes.sqlite` that was made before holds noise then.
Keys are never part of a backup.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from morphogen.core.border import parse_json, read_json
from morphogen.core.errors import BundleError
from morphogen.core.extras import extra
from morphogen.core.storage import write_text
from morphogen.systems.knowledge.vectors import Floats
from morphogen.systems.memory.note import Note

VERSION = 1
KEY, NONCE = 32, 12
ABOUT = {
    "version": int, "embedder": {"name": str, "digest": str}, "dim": int, "language": (str, None),
}  # fmt: skip
NOTES = """
create table notes (id text primary key, note blob not null, vector blob not null);
create table outside (place text not null, kind text not null, note text not null,
    primary key (place, note));
"""
KEYS = "create table keys (id text primary key, key blob not null);"
FILES = {"notes.sqlite": NOTES, "keys.sqlite": KEYS}


class Store:
    """The folder of a memory, opened by one process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about: dict[str, Any] = read_json(folder / "memory.json", ABOUT)
        if self.about["version"] != VERSION:
            raise BundleError(
                "this memory was written by another version", found=self.about["version"],
                expected=VERSION, where=folder,
            )  # fmt: skip
        self.notes, self.keys = (_connected(folder / name) for name in FILES)
        self._aes: Any = extra(
            "cryptography.hazmat.primitives.ciphers.aead", "agents", "a memory is sealed"
        ).AESGCM

    @classmethod
    def make(cls, folder: Path, about: Mapping[str, Any]) -> Store:
        """A new memory in a folder that has none; only its owner may read it."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, schema in FILES.items():
            with closing(sqlite3.connect(folder / name)) as base:
                base.execute("pragma journal_mode = wal")
                base.executescript(schema)
            (folder / name).chmod(0o600)
        told = json.dumps({"version": VERSION, **about}, indent=2)
        write_text(folder / "memory.json", told + "\n")  # last: it is whole
        return cls(folder)

    @classmethod
    def is_there(cls, folder: Path) -> bool:
        """Whether a folder holds a memory."""
        return (folder / "memory.json").is_file()

    def close(self) -> None:
        """Let go of the files."""
        self.notes.close()
        self.keys.close()

    # -- notes -----------------------------------------------------------------------------------

    def put(self, note: Note, vector: Floats) -> None:
        """Write a note down. The key comes first: what cannot be read is no note."""
        key = os.urandom(KEY)
        with self.keys:
            self.keys.execute("insert or replace into keys values (?, ?)", (note.id, key))
        told = json.dumps(note.to_json()).encode()
        parts = self._sealed(key, note.id, told), self._sealed(key, note.id, vector.tobytes())
        with self.notes:
            self.notes.execute("insert or replace into notes values (?, ?, ?)", (note.id, *parts))

    def all(self) -> Iterator[tuple[Note, Floats]]:
        """Every note, oldest first, and its vector (D,). Raises `BundleError` for one that was
        changed; of what has no key any more nothing is said."""
        yield from self.read(self.notes)

    def read(self, base: sqlite3.Connection) -> Iterator[tuple[Note, Floats]]:
        """Those of any copy of the notes, that there are keys for."""
        try:
            keys = dict(self.keys.execute("select id, key from keys"))
            rows = base.execute("select id, note, vector from notes").fetchall()
        except sqlite3.DatabaseError as error:
            raise BundleError(
                f"the notes cannot be read: {error}", where=self.folder,
                hint="morphogen memory restore FOLDER BACKUP",
            ) from error  # fmt: skip
        found = []
        for name, note, vector in rows:
            if name in keys:
                told = self._opened(keys[name], name, note)
                where = f"note {name}"
                kept = Note.from_json(parse_json(told.decode(), dict, where), where)
                numbers = np.frombuffer(self._opened(keys[name], name, vector), np.float32)
                found.append((kept, numbers))
        yield from sorted(found, key=lambda each: (each[0].made, each[0].id))

    def key(self, name: str) -> bytes | None:
        """The key of a note, while there is one."""
        found = self.keys.execute("select key from keys where id = ?", (name,)).fetchone()
        return None if found is None else bytes(found[0])

    def remove(self, names: Sequence[str]) -> None:
        """Overwrite notes and their keys, keys first, and leave nothing in logs."""
        rows = [(name,) for name in names]
        for base, tables in ((self.keys, ("keys",)), (self.notes, ("notes", "outside"))):
            with base:
                for table in tables:
                    column = "note" if table == "outside" else "id"
                    base.executemany(f"delete from {table} where {column} = ?", rows)
            settle(base)

    # -- copies ----------------------------------------------------------------------------------

    def copied(self, place: Path, kind: str, names: Iterable[str]) -> None:
        """Note that a file outside holds something of some notes, or all of them: "backup" (sealed,
        all), "export" (a line of JSON for each) or "whole" (a trace, a page)."""
        rows = [(str(place.resolve()), kind, name) for name in names]
        with self.notes:
            self.notes.executemany("insert or ignore into outside values (?, ?, ?)", rows)

    def outside(self, names: Sequence[str]) -> dict[Path, str]:
        """The files outside that hold something of notes, and of which kind each is."""
        wanted, found = set(names), {}
        for place, kind, note in self.notes.execute("select place, kind, note from outside"):
            if note in wanted:
                found[Path(place)] = kind
        return found

    def gone(self, place: Path) -> None:
        """Note that a file outside is there no more."""
        with self.notes:
            self.notes.execute("delete from outside where place = ?", (str(place),))

    def backup(self, place: Path) -> Path:
        """A copy of the sealed notes."""
        place.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(place)) as copy:
            self.notes.backup(copy)
        return place

    def _sealed(self, key: bytes, name: str, data: bytes) -> bytes:
        nonce = os.urandom(NONCE)
        return nonce + bytes(self._aes(key).encrypt(nonce, data, name.encode()))

    def _opened(self, key: bytes, name: str, sealed: bytes) -> bytes:
        try:
            return bytes(self._aes(key).decrypt(sealed[:NONCE], sealed[NONCE:], name.encode()))
        except Exception as error:
            raise BundleError(
                "a note was changed, or is another's", found=name, where=self.folder,
                hint="morphogen memory restore FOLDER BACKUP",
            ) from error  # fmt: skip


def settle(base: sqlite3.Connection) -> None:
    """Leave nothing of what was deleted: neither in the log nor in free pages."""
    base.execute("pragma wal_checkpoint(truncate)")
    base.execute("vacuum")
    base.execute("pragma wal_checkpoint(truncate)")


def _connected(file: Path) -> sqlite3.Connection:
    if not file.is_file():
        raise BundleError("a file of the memory is missing", where=file)
    base = sqlite3.connect(file, timeout=30, check_same_thread=False)
    base.execute("pragma secure_delete = on")
    return base
