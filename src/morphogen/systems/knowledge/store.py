"""What an index keeps in its folder.

    index.json       the version of the format, who embedded it, how it was cut
    index.sqlite     documents and passages
    vectors.f32      a row for each passage: (N, D), float32
    words.npz        postings; made anew from the passages where it is older than they are

A document is in the index when its transaction is: vectors are on disk before it, postings follow
from it. A row is never given to another passage. Those of passages that are gone are overwritten
with zeros, and SQLite overwrites what it deletes, so that nothing of a removed text is left.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from morphogen.core.errors import BundleError
from morphogen.core.storage import write_text
from morphogen.core.visible import in_shell
from morphogen.systems.knowledge.held import Held, Lately
from morphogen.systems.knowledge.passage import Document, Passage
from morphogen.systems.knowledge.storing import EVERYWHERE, Where
from morphogen.systems.knowledge.tables import TABLES, Tables
from morphogen.systems.knowledge.vectors import Floats
from morphogen.systems.knowledge.words import Words

VERSION = 1
SCHEMA = f"""{TABLES}
create table changes (number integer not null, next_row integer not null);
insert into changes values (0, 0);
"""


class Store(Tables):
    """The folder of an index, opened. One process writes, any number read."""

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder, self.about = folder, dict(about)
        self.dim = int(about["dim"])
        super().__init__(
            sqlite3.connect(folder / "index.sqlite", timeout=30, check_same_thread=False)
        )
        self.base.execute("pragma foreign_keys = on")
        self.base.execute("pragma secure_delete = on")
        self._words: tuple[int, Words] | None = None
        self._lately = Lately()

    @property
    def name(self) -> str:
        """Where it is."""
        return str(self.folder)

    @classmethod
    def make(cls, folder: Path, about: Mapping[str, Any]) -> Store:
        """A new index in a folder that has none."""
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(folder / "index.sqlite")) as base:
            base.execute("pragma journal_mode = wal")
            base.executescript(SCHEMA)
        (folder / "vectors.f32").touch()
        about = {"version": VERSION, **about}
        write_text(folder / "index.json", json.dumps(about, indent=2) + "\n")  # last: it is whole
        return cls(folder, about)

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Raises `BundleError` for a folder that holds no index, or one of another version."""
        file = folder / "index.json"
        if not file.is_file():
            raise BundleError(
                "there is no index here",
                where=folder,
                hint=f"morphogen index DOCUMENTS --out {in_shell(folder)}",
            )
        about = json.loads(file.read_text())
        if about.get("version") != VERSION:
            raise BundleError(
                "this index was written by another version", found=about.get("version"),
                expected=VERSION, where=file, hint="make it anew from its documents",
            )  # fmt: skip
        return cls(folder, about)

    def close(self) -> None:
        """Let go of the files."""
        self.base.close()

    # -- documents ---------------------------------------------------------------------------

    def put(self, document: Document, passages: Sequence[Passage], vectors: Floats) -> None:
        """Take in a document, in place of an older version of it."""
        with self.base:
            version = self._forget([document.place]) + 1
            first = self._next_row(len(passages))
            self._write_rows(first, vectors)
            self.insert(document, passages, first, version)
            self._changed()

    def remove(self, places: Iterable[str]) -> int:
        """Forget documents for good. Returns how many there were."""
        places = list(places)
        with self.base:
            there = sum(1 for place in places if self._forget([place]))
            self._changed()
        self.settle()
        return there

    def restrict(self, place: str, readers: Sequence[str]) -> None:
        """Say who may read a document."""
        with self.base:
            self.write_readers(place, readers)
            self._changed()

    def text(self, place: str, groups: Iterable[str] | None = None) -> str:
        """See `storing.Storing`."""
        if (found := self.found_text(place, groups)) is None:
            raise BundleError("there is no such document in the index", found=place)
        return found

    # -- passages ----------------------------------------------------------------------------

    def readable(self, groups: Iterable[str], where: Where = EVERYWHERE) -> Held:
        """See `storing.Storing`. What a set of groups may read of all stays in memory."""

        def made(named: tuple[str, ...]) -> Held:
            rows, vectors = self.allowed(named, where), self.vectors()
            near = vectors if len(rows) == len(vectors) else vectors[rows]
            return Held(rows, near, self.words(), self.passages, is_kept=not where)

        return self._lately.of(self.change(), groups, where, made)

    def vectors(self) -> Floats:
        """(rows, D), mapped: rows that hold no passage are zeros."""
        if not self.dim:
            return np.zeros((self._rows(), 0), np.float32)
        size = (self.folder / "vectors.f32").stat().st_size // (4 * self.dim)
        if not size:
            return np.zeros((0, self.dim), np.float32)
        shape = (size, self.dim)
        return np.memmap(self.folder / "vectors.f32", np.float32, "r", shape=shape)

    def words(self) -> Words:
        """The postings of what is there now."""
        now = self.change()
        if self._words is None or self._words[0] != now:
            self._words = now, self._brought_up(self._words[1] if self._words else None)
        return self._words[1]

    def change(self) -> int:
        """Counts what was changed: the same number, the same index."""
        return int(self.base.execute("select number from changes").fetchone()[0])

    def settle(self) -> None:
        """See `storing.Storing`; and write down what follows from the passages."""
        self._save_words(self.words())
        if not self.base.execute("pragma user_version").fetchone()[0]:
            self.base.execute("pragma wal_checkpoint(truncate)")
            return
        self._blank_gone()
        self.base.execute("pragma wal_checkpoint(truncate)")  # the log keeps no old pages
        self.base.execute("vacuum")
        self.base.execute("pragma user_version = 0")
        self.base.execute("pragma wal_checkpoint(truncate)")

    def _brought_up(self, words: Words | None) -> Words:
        """Postings of the rows that there are, from those of the rows that there were."""
        file = self.folder / "words.npz"
        if words is None and file.is_file():
            words = Words.load(file, self.about["language"])
        words = words or Words(self.about["language"])
        there = dict(self.base.execute("select row, digest from passages"))
        known = words.rows()
        gone = [row for row in known.tolist() if row not in there]
        if gone:
            words.remove(gone)
        new = sorted(there.keys() - set(known.tolist()))
        if new:
            words.add({row: each.context for row, each in self.passages(new).items()})
        return words

    def _save_words(self, words: Words) -> None:
        partial = self.folder / "words.npz.partial"
        words.save(partial)
        partial.replace(self.folder / "words.npz")

    def _forget(self, places: Sequence[str]) -> int:
        """Take documents out; their last version, 0 where there was none."""
        version = 0
        for place in places:
            found = self.base.execute(
                "select id, version from documents where place = ?", (place,)
            ).fetchone()
            if found is None:
                continue
            self.base.execute("delete from documents where id = ?", found[:1])
            self.base.execute("pragma user_version = 1")  # something is to be overwritten: `settle`
            version = found[1]
        return version

    def _next_row(self, num: int) -> int:
        """The first of as many rows that no passage ever had."""
        found = self.base.execute("select next_row from changes").fetchone()
        self.base.execute("update changes set next_row = next_row + ?", (num,))
        return int(found[0])

    def _rows(self) -> int:
        """Rows that a passage has, or had."""
        return int(self.base.execute("select next_row from changes").fetchone()[0])

    def _write_rows(self, first: int, vectors: Floats) -> None:
        with (self.folder / "vectors.f32").open("r+b") as file:
            file.seek(first * self.dim * 4)
            file.write(np.ascontiguousarray(vectors, np.float32).tobytes())
            file.flush()
            os.fsync(file.fileno())

    def _blank_gone(self) -> None:
        """Overwrite the vectors that no passage has any more."""
        there = np.fromiter(
            (row for (row,) in self.base.execute("select row from passages")), np.int64
        )
        gone = np.setdiff1d(np.arange(len(self.vectors())), there)
        with (self.folder / "vectors.f32").open("r+b") as file:
            for row in gone.tolist():
                file.seek(row * self.dim * 4)
                file.write(bytes(self.dim * 4))
            file.flush()
            os.fsync(file.fileno())

    def _changed(self) -> None:
        self.base.execute("update changes set number = number + 1")
