"""Documents and passages in a database of SQLite: what a folder and each shard of an index hold.

Questions that are asked of these tables are the same for both; who writes them, and when, is told
by `store` and `shard`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from morphogen.systems.knowledge.passage import EVERYONE, Document, Passage
from morphogen.systems.knowledge.storing import EVERYWHERE, Listed, Where
from morphogen.systems.knowledge.vectors import Ints

TABLES = """
create table documents (
    id integer primary key, place text not null unique, title text not null, digest text not null,
    readers text not null, facts text not null, text text not null, version integer not null);
create table passages (
    row integer primary key, document integer not null references documents on delete cascade,
    number integer not null, text text not null, heading text not null, page integer,
    start integer not null, end integer not null, digest text not null);
create index passages_of on passages (document);
"""
COLUMNS = (
    "d.place, d.title, p.text, p.heading, p.page, p.start, p.end, p.number"
    " from passages p join documents d on d.id = p.document"
)
ASKED = 500  # rows of one query


class Tables:
    """Documents with their passages, by the rows that these have."""

    def __init__(self, base: sqlite3.Connection) -> None:
        self.base = base

    def digests(self) -> dict[str, str]:
        """See `storing.Storing`."""
        return dict(self.base.execute("select place, digest from documents"))

    def version(self, place: str) -> int:
        """How often a document was taken in; 0 where there is none."""
        found = self.base.execute("select version from documents where place = ?", (place,))
        return int((found.fetchone() or (0,))[0])

    def found_text(self, place: str, groups: Iterable[str] | None) -> str | None:
        """The text of a document that a member of `groups` may read, if there is one."""
        which, given = _of(groups, EVERYWHERE)
        found = self.base.execute(
            f"select text from documents where place = ? and {which}", (place, *given)
        ).fetchone()
        return None if found is None else str(found[0])

    def documents(self, groups: Iterable[str] | None = None) -> list[Listed]:
        """See `storing.Storing`."""
        which, given = _of(groups, EVERYWHERE)
        found = self.base.execute(
            "select place, title, version, (select count(*) from passages where document = id),"
            f" readers, facts from documents where {which} order by place", given,
        )  # fmt: skip
        return [
            Listed(place, title, version, num, json.loads(readers), json.loads(facts))
            for place, title, version, num, readers, facts in found
        ]

    def counted(self, groups: Iterable[str]) -> tuple[int, int]:
        """See `storing.Storing`."""
        which, given = _of(groups, EVERYWHERE)
        (found,) = self.base.execute(
            "select count(*), coalesce(sum(length(cast(text as blob))), 0) from documents"
            f" where {which}", given,
        )  # fmt: skip
        return found[0], found[1]

    def allowed(self, groups: Iterable[str], where: Where = EVERYWHERE) -> Ints:
        """The rows that a member of `groups` may read, in the order in which they came."""
        which, given = _of(groups, where)
        found = self.base.execute(
            f"select row from passages where document in (select id from documents where {which})",
            given,
        )
        return np.sort(np.fromiter((row for (row,) in found), np.int64))

    def passages(self, rows: Sequence[int]) -> dict[int, Passage]:
        """See `storing.Readable`."""
        found: dict[int, Passage] = {}
        for start in range(0, len(rows), ASKED):
            part = [int(row) for row in rows[start : start + ASKED]]
            query = f"select row, {COLUMNS} where row in ({_marks(part)}) order by row"
            found |= {row: _passage(*told) for row, *told in self.base.execute(query, part)}
        return found

    def of_document(self, place: str) -> list[Passage]:
        """See `storing.Storing`."""
        query = f"select {COLUMNS} where d.place = ? order by p.number"
        return [_passage(*told) for told in self.base.execute(query, (place,))]

    def insert(
        self, document: Document, passages: Sequence[Passage], first: int, version: int
    ) -> None:
        """Write down a document, its passages from row `first` on."""
        (number,) = self.base.execute(
            "insert into documents (place, title, digest, readers, facts, text, version)"
            " values (?, ?, ?, ?, ?, ?, ?) returning id",
            (document.place, document.title, document.digest, json.dumps(document.readers),
             json.dumps(document.facts), document.text, version),
        ).fetchone()  # fmt: skip
        self.base.executemany(
            "insert into passages values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (first + i, number, each.number, each.text, json.dumps(each.heading),
                 each.page, each.start, each.end, each.digest)
                for i, each in enumerate(passages)
            ],
        )  # fmt: skip

    def write_readers(self, place: str, readers: Sequence[str]) -> None:
        """Write down who may read a document."""
        told = json.dumps(list(readers))
        self.base.execute("update documents set readers = ? where place = ?", (told, place))


def _of(groups: Iterable[str] | None, where: Where) -> tuple[str, list[Any]]:
    """Which documents: what stands behind `where` of a query, and what is given to it."""
    said, given = ["true"], list[Any]()
    if groups is not None:
        own = sorted({EVERYONE, *groups})
        said.append(f"exists (select 1 from json_each(readers) where value in ({_marks(own)}))")
        given += own
    if where.place is not None:
        said.append("place glob ?")
        given.append(where.place.replace("[!", "[^"))
    for name, value in where.facts.items():
        said.append("exists (select 1 from json_each(facts) where key = ? and value = ?)")
        given += [name, value]
    return " and ".join(said), given


def _marks(given: Sequence[Any]) -> str:
    return ", ".join("?" * len(given))


def _passage(
    place: str, title: str, text: str, heading: str, page: int | None, *numbers: int
) -> Passage:
    start, end, number = numbers
    return Passage(place, title, text, tuple(json.loads(heading)), page, start, end, number)
