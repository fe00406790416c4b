"""A shard of an index: some thousand passages in two files that never change.

    ..sqlite   documents and passages (`tables`), the rows and counts of each term, lengths of rows
    ..f32      a vector for each row: (R, D), float32, which is mapped; none of D = 0

Rows count from 0 in each shard, without gaps. What is asked of a shard is read from its files, so
that memory holds no more of it than the system keeps of them.

Legend: R rows (passages) of a shard, D dimensions.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morphogen.systems.knowledge.passage import Document, Passage
from morphogen.systems.knowledge.tables import TABLES, Tables
from morphogen.systems.knowledge.vectors import Floats, Ints
from morphogen.systems.knowledge.words import Words

POSTINGS = """
create table terms (term text primary key, rows blob not null, counts blob not null);
create table lengths (told blob not null);
"""
QUICK = "pragma journal_mode = off; pragma synchronous = off;"  # a file that nobody knows of yet
KILOBYTES = 512  # of a file that SQLite keeps in memory
SMALL = np.int32  # rows and counts in a file

Blobs = dict[str, list[tuple[Ints, Ints]]]  # term -> rows and counts, stretch by stretch


@dataclass(frozen=True)
class Taken:
    """A document that is to be written."""

    document: Document
    passages: Sequence[Passage]
    vectors: Floats


class Shard(Tables):
    """A shard, opened. It is read and never written, by any number of processes."""

    def __init__(self, tables: Path, vectors: Path | None, dim: int) -> None:
        self.file = tables
        super().__init__(sqlite3.connect(_immutable(tables), uri=True, check_same_thread=False))
        self.base.execute(f"pragma cache_size = -{KILOBYTES}")
        (told,) = self.base.execute("select told from lengths").fetchone()
        self.lengths = np.frombuffer(told, SMALL)  # (R,), terms in each row
        self.vectors: Floats = np.zeros((len(self), dim), np.float32)
        if vectors is not None and len(self):
            self.vectors = np.memmap(vectors, np.float32, "r", shape=(len(self), dim))
        self.places: Set[str] = self.digests().keys()

    def __len__(self) -> int:
        return len(self.lengths)

    def postings(self, term: str) -> tuple[Ints, Ints]:
        """The rows that hold a term, sorted, and how often each does."""
        found = self.base.execute("select rows, counts from terms where term = ?", (term,))
        return _numbers(*(found.fetchone() or (b"", b"")))

    def left(self, gone: Set[str]) -> Ints:
        """The rows of documents that are not `gone`."""
        if self.places.isdisjoint(gone):
            return np.arange(len(self))
        query = "select d.place, p.row from passages p join documents d on d.id = p.document"
        return np.array(
            sorted(row for place, row in self.base.execute(query) if place not in gone), np.int64
        )


def write_shard(
    tables: Path,
    vectors: Path,
    old: Sequence[Shard],
    more: Sequence[Taken] = (),
    *,
    gone: Set[str] = frozenset(),
    readers: Mapping[str, Sequence[str]] | None = None,
    versions: Mapping[str, int] | None = None,
    language: str | None = None,
) -> tuple[int, int]:
    """Write what shards hold, but for the documents that are `gone`, and then `more`, into one.
    `readers` are those of documents whose readers are others now, `versions` how often some of
    `more` were taken in before. Returns how many documents it has, and how many rows."""
    blobs: Blobs = {}
    rows = 0
    with closing(sqlite3.connect(tables.absolute().as_uri(), uri=True)) as base, base:
        base.executescript(QUICK + TABLES + POSTINGS)
        written = Tables(base)
        with vectors.open("wb") as stream:
            for shard in old:
                left = shard.left(gone)
                _copy(base, shard, gone, left, rows)
                stream.write(np.ascontiguousarray(shard.vectors[left]).tobytes())
                _take(blobs, shard, left, rows)
                rows += len(left)
            first, words = rows, Words(language)
            for each in more:
                version = (versions or {}).get(each.document.place, 0) + 1
                written.insert(each.document, each.passages, rows, version)
                stream.write(np.ascontiguousarray(each.vectors, np.float32).tobytes())
                rows += len(each.passages)
        texts = [passage.context for each in more for passage in each.passages]
        words.add(dict(enumerate(texts, first)))
        for term in words.ids:
            blobs.setdefault(term, []).append(words.postings(term))
        for place, own in (readers or {}).items():
            written.write_readers(place, own)
        _write_postings(base, blobs, rows)
        (num,) = base.execute("select count(*) from documents").fetchone()
    return num, rows


def _copy(base: sqlite3.Connection, shard: Shard, gone: Set[str], left: Ints, first: int) -> None:
    """Documents that are not `gone`, and their passages: the `left` rows become those from `first`
    on."""
    columns = "place, title, digest, readers, facts, text, version"
    rows = ((row, first + new) for new, row in enumerate(left.tolist()))
    base.execute("attach ? as old", (_immutable(shard.file),))
    base.execute("create temp table renamed (row integer primary key, new integer)")
    base.executemany("insert into renamed values (?, ?)", rows)
    base.execute(
        f"insert into documents ({columns}) select {columns} from old.documents where place not in"
        " (select value from json_each(?)) order by id", (json.dumps([*gone]),),
    )  # fmt: skip
    base.execute(
        "insert into passages select new, d.id, number, p.text, heading, page, start, end, p.digest"
        " from renamed join old.passages p using (row) join old.documents o on o.id = p.document"
        " join documents d on d.place = o.place"
    )
    base.commit()
    base.execute("drop table renamed")
    base.execute("detach old")


def _take(blobs: Blobs, shard: Shard, left: Ints, first: int) -> None:
    """The postings of `left` rows."""
    renamed = np.full(len(shard), -1)
    renamed[left] = np.arange(first, first + len(left))
    for term, *told in shard.base.execute("select term, rows, counts from terms"):
        rows, counts = _numbers(*told)
        rows = renamed[rows]
        if len(there := np.flatnonzero(rows >= 0)):
            blobs.setdefault(term, []).append((rows[there], counts[there]))


def _write_postings(base: sqlite3.Connection, blobs: Blobs, num: int) -> None:
    lengths = np.zeros(num, SMALL)

    def told(term: str) -> tuple[str, bytes, bytes]:
        rows, counts = (np.concatenate(each) for each in zip(*blobs[term], strict=True))
        lengths[rows] += counts.astype(SMALL)  # no row holds a term twice
        return term, rows.astype(SMALL).tobytes(), counts.astype(SMALL).tobytes()

    base.executemany("insert into terms values (?, ?, ?)", map(told, sorted(blobs)))
    base.execute("insert into lengths values (?)", (lengths.tobytes(),))


def _numbers(rows: bytes, counts: bytes) -> tuple[NDArray[Any], NDArray[Any]]:
    return (
        np.frombuffer(rows, SMALL).astype(np.int64),
        np.frombuffer(counts, SMALL).astype(np.int64),
    )


def _immutable(file: Path) -> str:
    """What SQLite calls a file that nobody writes."""
    return f"{file.absolute().as_uri()}?mode=ro&immutable=1"
