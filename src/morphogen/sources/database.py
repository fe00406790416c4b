"""Tables of a database by URL.

    sqlite:///data.db?table=notes      postgresql://user@host/name?table=notes

`?query=SELECT ...` reads what a query gives. SQLite needs nothing; other databases are reached
through SQLAlchemy and the driver that the URL names. Nothing is ever written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote

from morphogen.core.errors import DataError, did_you_mean, missing_path
from morphogen.core.extras import extra
from morphogen.sources._record import Survey
from morphogen.sources._record_batch import BATCH as TOGETHER
from morphogen.sources._regular import open_regular
from morphogen.sources._table import Cells, Row, Table, TableSource

SUFFIXES = (".sqlite", ".sqlite3", ".db")
START = b"SQLite format 3\0"
BATCH = 256  # rows fetched at once


class Database(TableSource):
    """A table of an SQLite file or of a database server, or what a query gives."""

    @classmethod
    def opens(cls, source: Any) -> float:
        text = str(source) if isinstance(source, (str, Path)) else ""
        if "://" in text:
            return 0.0 if text.startswith("hf://") else 0.9
        path = Path(text)
        if not text.lower().endswith(SUFFIXES) or not path.is_file():
            return 0.0
        with open_regular(path) as stream:
            return 0.9 if stream.read(len(START)) == START else 0.0

    def tables(self) -> Iterator[Table]:
        """The table, or the answer of the query."""
        place = _Place.of(str(self.source))
        yield _sqlite(place) if place.path is not None else _server(place)

    def survey(self) -> Survey:
        try:
            return next(self.tables()).survey(name="a table of a database")
        except DataError as error:
            return Survey("table", damaged=error, name="a database")


@dataclass(frozen=True)
class _Place:
    """What a URL says: where the database is, and the table or query that is asked for."""

    url: str  # without table and query
    path: Path | None  # of an SQLite file
    table: str
    query: str

    @classmethod
    def of(cls, source: str) -> _Place:
        url, _, asked = source.partition("?")
        options = parse_qs(asked)
        table = (options.pop("table", None) or [""])[0]
        query = (options.pop("query", None) or [""])[0]
        rest = "&".join(f"{key}={quote(v)}" for key, vs in options.items() for v in vs)
        path = Path(unquote(url.removeprefix("sqlite:///"))).expanduser()
        is_file = url.startswith("sqlite:///") or "://" not in url
        return cls(url + (f"?{rest}" if rest else ""), path if is_file else None, table, query)


def _choose(place: _Place, names: Sequence[str]) -> str:
    """The table that is asked for, or the only one. Raises `DataError` listing what there is."""
    if place.table in names:
        return place.table
    if not place.table and len(names) == 1:
        return names[0]
    raise DataError(
        f"there is no table {place.table!r}.{did_you_mean(place.table, names)}"
        if place.table
        else "the database has several tables",
        found=", ".join(names) or "no tables",
        where=place.url,
        hint=f"name one: {place.url}?table={names[0] if names else 'NAME'}",
    )


# -- SQLite ---------------------------------------------------------------------------------------


def _sqlite(place: _Place) -> Table:
    path = place.path
    assert path is not None
    if not path.is_file():
        raise missing_path(path)
    try:
        with closing(_opened(path)) as database:
            known = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name"
            names = [name for (name,) in database.execute(known)]
            shown = [name for name in names if not name.startswith("sqlite_")]
            if place.query:
                name, query = "query", place.query
            else:
                name = _choose(place, shown)
                query = f"SELECT * FROM {_quoted(name)}"  # in the order of its rows
            found = database.execute(query)
            columns = [each[0] for each in found.description or ()]
    except sqlite3.Error as error:
        raise _refused(error, place) from error

    def rows() -> Iterator[tuple[str, Row]]:
        try:
            with closing(_opened(path)) as database:
                for number, cells in enumerate(database.execute(query), 1):
                    yield f"{name}#row {number}", dict(zip(columns, cells, strict=True))
        except sqlite3.Error as error:
            raise _refused(error, place) from error

    def batches() -> Iterator[tuple[int, Cells]]:
        try:
            with closing(_opened(path)) as database:
                yield from _by_columns(columns, database.execute(query))
        except sqlite3.Error as error:
            raise _refused(error, place) from error

    return Table(name, columns, rows, path.parent, where=place.url, batches=batches)


def _by_columns(columns: Sequence[str], found: Any) -> Iterator[tuple[int, Cells]]:
    """The rows that a cursor gives, many at once."""
    number = 1
    while some := found.fetchmany(TOGETHER):
        yield number, dict(zip(columns, zip(*some, strict=True), strict=True))
        number += len(some)


def _opened(path: Path) -> sqlite3.Connection:
    """Read-only, and without the functions that a schema may call."""
    with open_regular(path) as stream:
        if stream.read(len(START)) != START:
            raise DataError("not an SQLite database", where=str(path))
    database = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
    database.execute("PRAGMA trusted_schema = OFF")
    return database


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _refused(error: Exception, place: _Place) -> DataError:
    reason = str(error).partition("\n")[0]
    return DataError(f"the database cannot be read: {reason}", where=place.url)


# -- servers --------------------------------------------------------------------------------------


def _server(place: _Place) -> Table:
    where = place.url.partition("@")[2] or place.url  # what stands before is a password
    what = "databases other than SQLite are read"
    sqlalchemy = extra("sqlalchemy", "sql", what, raises=DataError, where=where)
    scheme, _, rest = place.url.partition("://")
    hidden = f"{scheme}://{rest.rpartition('@')[2]}"
    try:
        engine = sqlalchemy.create_engine(place.url)
        statement: Any = sqlalchemy.text(place.query)
        name = "query"
        if not place.query:
            looked = sqlalchemy.inspect(engine)
            name = _choose(place, looked.get_table_names())
            table = sqlalchemy.Table(name, sqlalchemy.MetaData(), autoload_with=engine)
            statement = sqlalchemy.select(table).order_by(*(table.primary_key or table.columns))
        with engine.connect() as connection:
            columns = list(connection.execute(statement).keys())
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"the database cannot be read: {reason}", where=hidden) from error

    def rows() -> Iterator[tuple[str, Row]]:
        with engine.connect().execution_options(yield_per=BATCH) as connection:
            for number, row in enumerate(connection.execute(statement).mappings(), 1):
                yield f"{name}#row {number}", dict(row)

    def batches() -> Iterator[tuple[int, Cells]]:
        with engine.connect().execution_options(yield_per=TOGETHER) as connection:
            yield from _by_columns(columns, connection.execute(statement))

    return Table(name, columns, rows, None, where=hidden, batches=batches)
