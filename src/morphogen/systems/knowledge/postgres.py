"""An index in a database of PostgreSQL with pgvector, by its URL: a schema of its own.

    morphogen index handbook --out 'postgresql://ann@host/papers#handbook'

The same questions get the same answers as from a folder (`store`): the rows that may be read come
before everything else, vectors are compared exactly, and words are counted over these rows. What is
deleted is gone from the tables; the log of the server keeps it for as long as it is set to.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from morphogen.core.errors import BundleError, RecipeError
from morphogen.core.extras import extra
from morphogen.systems.knowledge.passage import EVERYONE, Document, Passage
from morphogen.systems.knowledge.storing import EVERYWHERE, Listed, Where
from morphogen.systems.knowledge.vectors import Floats, Ints
from morphogen.systems.knowledge.words import asked_terms, asked_words, gain, holders, norm, terms

VERSION = 1
USUAL = "morphogen_index"  # the schema, where a URL names none
NAME = re.compile(r"[A-Za-z_][\w-]{0,62}")
SCHEMA = """
create table about (told jsonb not null);
create table documents (
    id bigint generated always as identity primary key, place text not null unique,
    title text not null, digest text not null, readers text[] not null, facts jsonb not null,
    body text not null, version bigint not null);
create table passages (
    id bigint generated always as identity primary key,
    document bigint not null references documents on delete cascade, number bigint not null,
    body text not null, heading jsonb not null, page bigint, first bigint not null,
    last bigint not null, length bigint not null{vector});
create index on passages (document);
create table postings (
    term text not null, passage bigint not null references passages on delete cascade,
    count bigint not null, primary key (term, passage));
create index on postings (passage);
create table changes (number bigint not null, has_gaps boolean not null);
insert into changes values (0, false);
"""
COLUMNS = (
    "d.place, d.title, p.body, p.heading, p.page, p.first, p.last, p.number"
    " from passages p join documents d on d.id = p.document"
)


class Postgres:
    """See `storing.Storing`. One process writes, any number read."""

    prefixes: ClassVar = ("postgresql://", "postgres://")

    def __init__(self, base: Any, name: str, about: Mapping[str, Any]) -> None:
        self.base, self.name, self.about = base, name, dict(about)

    @classmethod
    def make(cls, url: str, about: Mapping[str, Any]) -> Postgres:
        """A new index in a schema that is not there yet."""
        base, schema = _connected(url)
        vector = f", vector vector({int(about['dim'])}) not null" if about["dim"] else ""
        told = {"version": VERSION, **about}
        with base.transaction():
            if vector:
                _extend(base)
            _new_schema(base, schema, url)
            base.execute(SCHEMA.format(vector=vector))
            base.execute("insert into about values (%s)", (json.dumps(told),))
        return cls(base, _shown(url), told)

    @classmethod
    def open(cls, url: str) -> Postgres:
        """Raises `BundleError` where there is no index, or one of another version."""
        base, schema = _connected(url)
        there = base.execute("select to_regclass(%s)", (f'"{schema}".about',)).fetchone()[0]
        if there is None:
            base.close()
            raise BundleError(
                "there is no index here", where=_shown(url),
                hint=f"morphogen index DOCUMENTS --out '{_shown(url)}'",
            )  # fmt: skip
        about = base.execute("select told from about").fetchone()[0]
        if about.get("version") != VERSION:
            raise BundleError(
                "this index was written by another version", found=about.get("version"),
                expected=VERSION, where=_shown(url), hint="make it anew from its documents",
            )  # fmt: skip
        return cls(base, _shown(url), about)

    @classmethod
    def is_there(cls, url: str) -> bool:
        """Whether there is one."""
        try:
            cls.open(url).close()
        except BundleError as error:
            if "no index" not in error.message:
                raise
            return False
        return True

    def close(self) -> None:
        """See `storing.Storing`."""
        self.base.close()

    # -- documents ---------------------------------------------------------------------------

    def change(self) -> int:
        """See `storing.Storing`."""
        return int(self.base.execute("select number from changes").fetchone()[0])

    def digests(self) -> dict[str, str]:
        """See `storing.Storing`."""
        return dict(self.base.execute("select place, digest from documents").fetchall())

    def put(self, document: Document, passages: Sequence[Passage], vectors: Floats) -> None:
        """See `storing.Storing`."""
        with self.base.transaction():
            found = self.base.execute(
                "delete from documents where place = %s returning version", (document.place,)
            ).fetchone()
            (number,) = self.base.execute(
                "insert into documents (place, title, digest, readers, facts, body, version)"
                " values (%s, %s, %s, %s, %s, %s, %s) returning id",
                (document.place, _clean(document.title), document.digest, list(document.readers),
                 _json(document.facts), _clean(document.text), 1 + (found[0] if found else 0)),
            ).fetchone()  # fmt: skip
            for passage, vector in zip(passages, vectors, strict=True):
                self._add(number, passage, vector)
            self._changed(has_gaps=found is not None)

    def remove(self, places: Iterable[str]) -> int:
        """See `storing.Storing`."""
        with self.base.transaction():
            gone = self.base.execute("delete from documents where place = any(%s)", (list(places),))
            self._changed(has_gaps=gone.rowcount > 0)
        self.settle()
        return int(gone.rowcount)

    def restrict(self, place: str, readers: Sequence[str]) -> None:
        """See `storing.Storing`."""
        with self.base.transaction():
            self.base.execute(
                "update documents set readers = %s where place = %s", (list(readers), place)
            )
            self._changed()

    def settle(self) -> None:
        """See `storing.Storing`: tables are written anew, where something was deleted."""
        if not self.base.execute("select has_gaps from changes").fetchone()[0]:
            return
        for table in ("documents", "passages", "postings"):
            self.base.execute(f"vacuum (full, analyze) {table}")
        self.base.execute("update changes set has_gaps = false")

    def documents(self, groups: Iterable[str] | None = None) -> list[Listed]:
        """See `storing.Storing`."""
        which, given = _of(groups, EVERYWHERE)
        found = self.base.execute(
            "select place, title, version, (select count(*) from passages where document = d.id),"
            f" readers, facts from documents d where {which} order by place collate \"C\"", given,
        )  # fmt: skip
        return [Listed(*each) for each in found]

    def counted(self, groups: Iterable[str]) -> tuple[int, int]:
        """See `storing.Storing`."""
        which, given = _of(groups, EVERYWHERE)
        query = (
            f"select count(*), coalesce(sum(octet_length(body)), 0) from documents d where {which}"
        )
        num, size = self.base.execute(query, given).fetchone()
        return int(num), int(size)

    def text(self, place: str, groups: Iterable[str] | None = None) -> str:
        """See `storing.Storing`."""
        which, given = _of(groups, EVERYWHERE)
        query = f"select body from documents d where place = %s and {which}"
        found = self.base.execute(query, (place, *given)).fetchone()
        if found is None:
            raise BundleError("there is no such document in the index", found=place)
        return str(found[0])

    def of_document(self, place: str) -> list[Passage]:
        """See `storing.Storing`."""
        query = f"select {COLUMNS} where d.place = %s order by p.number"
        return [_passage(*told) for told in self.base.execute(query, (place,))]

    def readable(self, groups: Iterable[str], where: Where = EVERYWHERE) -> Reading:
        """See `storing.Storing`."""
        return Reading(self.base, self.about["language"], *_of(groups, where))

    def _add(self, document: int, passage: Passage, vector: Floats) -> None:
        counts = Counter(terms(_clean(passage.context), self.about["language"]))
        columns = "document, number, body, heading, page, first, last, length"
        given: list[Any] = [
            document, passage.number, _clean(passage.text), _json(passage.heading),
            passage.page, passage.start, passage.end, counts.total(),
        ]  # fmt: skip
        if len(vector):
            columns, given = f"{columns}, vector", [*given, _told(vector)]
        marks = ", ".join(["%s"] * len(given))
        (row,) = self.base.execute(
            f"insert into passages ({columns}) values ({marks}) returning id", given
        ).fetchone()
        self.base.execute(
            "insert into postings select term, %s, count from unnest(%s::text[], %s::bigint[])"
            " as told(term, count)",
            (row, list(counts), list(counts.values())),
        )

    def _changed(self, *, has_gaps: bool = False) -> None:
        """Count it; and note that something was deleted, which `settle` is to clear away."""
        self.base.execute(
            "update changes set number = number + 1, has_gaps = has_gaps or %s", (has_gaps,)
        )


class Reading:
    """See `storing.Readable`: the passages of documents that a clause names."""

    def __init__(self, base: Any, language: str | None, which: str, given: list[Any]) -> None:
        self.base, self.language, self.given = base, language, given
        self.inside = f"document in (select id from documents d where {which})"

    @property
    def rows(self) -> Ints:
        """See `storing.Readable`."""
        query = f"select id from passages where {self.inside} order by id"
        found = self.base.execute(query, self.given)
        return np.fromiter((row for (row,) in found), np.int64)

    def __len__(self) -> int:
        query = f"select count(*) from passages where {self.inside}"
        return int(self.base.execute(query, self.given).fetchone()[0])

    def nearest(self, vector: Floats, num: int) -> dict[int, float]:
        """See `storing.Readable`. Exactly: no index of vectors is asked."""
        found = self.base.execute(
            f"select id, -(vector <#> %s::vector) from passages where {self.inside}"
            " order by 2 desc, 1 limit %s", (_told(vector), *self.given, num),
        )  # fmt: skip
        return {int(row): float(near) for row, near in found}

    def holding(self, question: str, num: int) -> dict[int, float]:
        """See `storing.Readable`."""
        query = f"select count(*), coalesce(sum(length), 0) from passages where {self.inside}"
        total, letters = self.base.execute(query, self.given).fetchone()
        asked = Counter(asked_terms(question, self.language))
        found = self.base.execute(
            "select term, passage, count, length from postings join passages on id = passage"
            f" where term = any(%s) and {self.inside}", (list(asked), *self.given),
        ).fetchall()  # fmt: skip
        of_term: dict[str, list[tuple[int, int, int]]] = {}
        for term, row, count, length in found:
            of_term.setdefault(term, []).append((row, count, length))
        scores: dict[int, float] = {}
        for term in sorted(of_term):
            rows, counts, lengths = np.array(of_term[term]).T
            divided = norm(lengths, float(letters) / max(total, 1))
            more = asked[term] * gain(total, len(rows), counts, divided)
            for row, score in zip(rows.tolist(), more.tolist(), strict=True):
                scores[row] = scores.get(row, 0.0) + score
        best = sorted(scores.items(), key=lambda each: (-each[1], each[0]))
        return dict(best[:num])

    def exact(self, question: str) -> frozenset[int]:
        """See `storing.Readable`."""
        words = asked_words(question, self.language)
        found = self.base.execute(
            "select term, passage from postings join passages on id = passage"
            f" where term = any(%s) and {self.inside}",
            ([term for spelt in words for term in spelt], *self.given),
        ).fetchall()  # fmt: skip
        rows: dict[str, set[int]] = {}
        for term, row in found:
            rows.setdefault(term, set()).add(row)
        held = (set().union(*(rows.get(term, ()) for term in spelt)) for spelt in words)
        arrays = (np.array(sorted(each), np.int64) for each in held)
        return frozenset(holders(arrays, len(self)).tolist())

    def held(self, question: str, row: int) -> list[str]:
        """See `storing.Readable`."""
        asked = dict.fromkeys(asked_terms(question, self.language))
        query = "select term from postings where passage = %s and term = any(%s)"
        there = {term for (term,) in self.base.execute(query, (row, list(asked)))}
        return [term for term in asked if term in there]

    def passages(self, rows: Sequence[int]) -> dict[int, Passage]:
        """See `storing.Readable`."""
        query = f"select p.id, {COLUMNS} where p.id = any(%s) order by p.id"
        return {row: _passage(*told) for row, *told in self.base.execute(query, (list(rows),))}


def _connected(url: str) -> tuple[Any, str]:
    """A connection whose tables are those of the schema that a URL names, and that name."""
    psycopg = extra("psycopg", "postgres", "an index lies in PostgreSQL")
    address, _, schema = url.partition("#")
    schema = schema or USUAL
    if not NAME.fullmatch(schema):
        raise RecipeError("this is no name for an index in a database", found=schema,
                          expected="letters, digits and _ -")  # fmt: skip
    try:
        base = psycopg.connect(address, autocommit=True)
    except psycopg.OperationalError as error:
        raise BundleError(
            "the database does not answer", where=_shown(url), found=str(error).strip()[:300]
        ) from error
    base.execute(f'set search_path to "{schema}", public')
    return base, schema


def _new_schema(base: Any, schema: str, url: str) -> None:
    there = base.execute("select 1 from pg_namespace where nspname = %s", (schema,)).fetchone()
    if there is not None:
        raise BundleError("there is a schema of this name already", where=_shown(url),
                          found=schema, hint="name another behind the #")  # fmt: skip
    base.execute(f'create schema "{schema}"')


def _extend(base: Any) -> None:
    """Have pgvector there. Raises `RecipeError` where it is not installed."""
    there = base.execute("select 1 from pg_available_extensions where name = 'vector'").fetchone()
    if there is None:
        raise RecipeError(
            "this PostgreSQL has no pgvector, which compares vectors", hint="install pgvector there"
        )
    base.execute("create extension if not exists vector schema public")


def _of(groups: Iterable[str] | None, where: Where) -> tuple[str, list[Any]]:
    """Which documents (d): what stands behind `where` of a query, and what is given to it."""
    said, given = ["true"], list[Any]()
    if groups is not None:
        said.append("d.readers && %s::text[]")
        given.append(sorted({EVERYONE, *groups}))
    if where.place is not None:
        said.append("d.place ~ %s")
        given.append(_pattern(where.place))
    for name, value in where.facts.items():
        said.append("d.facts -> %s::text = %s::jsonb")
        given += [name, _json(value)]
    return " and ".join(said), given


def _pattern(told: str) -> str:
    """A pattern of places as a regular expression of PostgreSQL."""
    parts = re.findall(r"\[!?\]?[^\]]*\]|.", told, re.DOTALL)
    known = {"*": ".*", "?": "."}
    said = [
        known.get(each) or (each.replace("[!", "[^") if len(each) > 1 else re.escape(each))
        for each in parts
    ]
    return f"^{''.join(said)}$"


def _clean(text: str) -> str:
    """A text without what PostgreSQL has no place for, letter by letter, so that offsets stay."""
    return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def _json(value: Any) -> str:
    return _clean(json.dumps(value, ensure_ascii=False, default=str)).replace("\\u0000", "\ufffd")


def _told(vector: Floats) -> str:
    return f"[{','.join(map(repr, np.asarray(vector, np.float32).tolist()))}]"


def _shown(url: str) -> str:
    """A URL without its password."""
    return re.sub(r"(//[^:/@]*):[^@/]*@", r"\1@", url)


def _passage(
    place: str, title: str, body: str, heading: list[str], page: int | None, *numbers: int
) -> Passage:
    start, end, number = numbers
    return Passage(place, title, body, tuple(heading), page, start, end, number)
