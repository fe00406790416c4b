"""The database under the records: SQLite in a file, or PostgreSQL by URL; transactions and errors.

SQLite keeps a write-ahead log, so that many read while one writes, and deletes for good
(`secure_delete`). A writer takes its turn at the start of a transaction and waits for others. What
was committed outlives the process, however it ends; where the power fails, the database is sound
and its last moment may be missing. Whatever goes wrong below is told as one `RecordsError`.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from morphogen.core.errors import RecordsError
from morphogen.core.storage import expanded
from morphogen.records.tables import Base

PATIENCE = 15.0  # seconds that a writer waits for its turn
PRAGMAS = (
    "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON",
 "cache_size=-65536", "temp_store=MEMORY",
)  # fmt: skip


def default_place() -> str:
    """Where the records lie unless told: MORPHOGEN_RECORDS (a path or URL), or a user's folder."""
    return os.environ.get("MORPHOGEN_RECORDS") or str(_data_folder() / "records.db")


def _data_folder() -> Path:
    return expanded(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "morphogen"


class Database:
    """A database that transactions are opened on."""

    def __init__(self, place: str | Path) -> None:
        self.path = None if "://" in str(place) else expanded(place)
        url = str(place) if self.path is None else f"sqlite:///{self.path.absolute()}"
        self.engine = _engine(url, self.path)
        self._open = _Open()
        self._writer = self.engine.execution_options(begin="IMMEDIATE")

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file here."""
        return self.path is not None

    @property
    def name(self) -> str:
        """What it is called in messages: its path, or its URL without the password."""
        return str(self.path or self.engine.url.render_as_string(hide_password=True))

    @property
    def exists(self) -> bool:
        """Whether there is a database already; one by URL is taken to exist."""
        return self.path is None or (self.path.is_file() and self.path.stat().st_size > 0)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """What was true at one moment."""
        if self._open.session is not None:
            yield self._open.session
            return
        with self.explaining(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction: all of it is kept, or none."""
        if self._open.session is not None:
            yield self._open.session
            return
        session = Session(self._writer, expire_on_commit=False)
        with self.explaining(), session, session.begin():
            yield session

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that this thread reads and writes meanwhile is one transaction: for many at once."""
        with self.write() as session:
            outer, self._open.session = self._open.session, session
            try:
                yield
            finally:
                self._open.session = outer

    def insert_new(self, session: Session, table: type[Base], **values: Any) -> int | None:
        """Insert a row; returns its number, or None where one with its unique values is there."""
        found = session.execute(_inserting(table, self.is_sqlite), values)
        return found.scalar() if "id" in table.__table__.c else None

    def insert_all_new(
        self, session: Session, table: type[Base], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Insert rows, those left out that are there already."""
        session.execute(_inserting(table, self.is_sqlite, numbered=False), list(rows))

    def count(
        self,
        session: Session,
        table: type[Base],
        key: Mapping[str, Any],
        more: Mapping[str, int],
    ) -> None:
        """Add to the numbers of a row, which begins with them where it is not there."""
        columns = table.__table__.c
        begun = _dialect(self.is_sqlite).insert(table.__table__).values(**key, **more)
        added = {name: columns[name] + number for name, number in more.items()}
        session.execute(begun.on_conflict_do_update(index_elements=list(key), set_=added))

    def take_turns(self, session: Session, what: int) -> None:
        """Let one writer at a time do `what`, until its transaction ends. SQLite always does."""
        if not self.is_sqlite:
            session.execute(text("SELECT pg_advisory_xact_lock(:what)"), {"what": what})

    def settle(self) -> None:
        """Write over what was deleted: SQLite's log still holds it."""
        if not self.is_sqlite:
            return
        with self.explaining(), self.engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Tell what goes wrong in the database as a `RecordsError`."""
        try:
            yield
        except DBAPIError as error:
            raise explained(error, self) from error
        except SQLAlchemyError as error:
            raise RecordsError(f"the records cannot be used: {error}", where=self.name) from error

    # -- backups, so that a damaged database can name them ---------------------------------------

    @property
    def _list(self) -> Path:
        if self.path is not None:
            return self.path.with_name(f"{self.path.name}.backups")
        name = "".join(c if c.isalnum() else "-" for c in self.name.partition("://")[2])
        return _data_folder() / f"{name}.backups"  # of a database on a server, here

    def note_backup(self, path: Path) -> None:
        """Remember beside the database that a backup of it was written."""
        self._list.parent.mkdir(parents=True, exist_ok=True)
        with self._list.open("a") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {path}\n")

    def last_backup(self) -> str | None:
        """The newest backup that still exists, with its time."""
        if not self._list.is_file():
            return None
        lines = [line.split(" ", 1) for line in self._list.read_text().splitlines()]
        there = [(when, path) for when, path in lines if Path(path).is_file()]
        return f"{there[-1][1]} of {there[-1][0]}" if there else None


def _dialect(is_sqlite: bool) -> ModuleType:
    """What of SQL is the database's own. Only that is imported: PostgreSQL's takes a while."""
    return importlib.import_module(f"sqlalchemy.dialects.{'sqlite' if is_sqlite else 'postgresql'}")


@cache
def _inserting(table: type[Base], is_sqlite: bool, numbered: bool = True) -> Any:
    """The statement that inserts what is not there, made once: making it costs as much as running
    it does."""
    rows: Any = table.__table__
    statement = _dialect(is_sqlite).insert(rows).on_conflict_do_nothing()
    return statement.returning(rows.c.id) if numbered and "id" in rows.c else statement


class _Open(threading.local):
    """The transaction that a thread is in, where it is in one."""

    session: Session | None = None


def _engine(url: str, path: Path | None) -> Engine:
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordsError(
                f"the folder of the records cannot be made: {error.strerror}", where=path.parent
            ) from error
        engine = create_engine(url, connect_args={"isolation_level": None, "timeout": PATIENCE})
        event.listen(engine, "connect", _prepared)
        event.listen(engine, "begin", _begun)
        return engine
    try:
        place = make_url(url)
        if place.drivername in ("postgresql", "postgres"):
            place = place.set(drivername="postgresql+psycopg")
        return create_engine(place, pool_pre_ping=True)
    except (ArgumentError, SQLAlchemyError, ImportError) as error:
        raise RecordsError(
            f"records cannot be kept there: {error}",
            expected="a path, or postgresql://user@host/database",
            where=make_url(url).render_as_string() if "://" in url else url,
            hint="pip install 'morphogen[postgres]'" if isinstance(error, ImportError) else None,
        ) from error


def _prepared(connection: Any, _: Any) -> None:
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(f"PRAGMA busy_timeout={int(PATIENCE * 1000)}")


def _begun(connection: Any) -> None:
    # Deferred readers never wait; a writer that began as a reader could find itself too late.
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', '')}")


# -- what went wrong -------------------------------------------------------------------------------

LOCKED, FULL = ("SQLITE_BUSY", "SQLITE_LOCKED", "55P03"), ("SQLITE_FULL", "53100")
DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "XX001", "XX002")
UNWRITABLE = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "25006", "42501")


def explained(error: DBAPIError, database: Database) -> RecordsError:
    """What a user can do about an error of the database."""
    original = error.orig
    code = str(getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", ""))
    said = str(original).strip().splitlines()[0] if str(original).strip() else type(error).__name__
    where = database.name
    if code.startswith(LOCKED):
        return RecordsError(
            f"the records are in use: another process has been writing for {PATIENCE:.0f} s",
            where=where,
            hint="run the same command again; does a process hang? fuser -v " + where,
        )
    if code.startswith(DAMAGED):
        last = database.last_backup()
        return RecordsError(
            "the database of the records is damaged",
            found=f"{said}; the last backup is {last or 'not known'}",
            where=where,
            hint=f"move it away, then: morphogen records restore {(last or 'FILE').split(' ')[0]}",
        )
    if code.startswith(FULL) or "disk I/O error" in said:
        return RecordsError(
            "the disk of the records is full: nothing was written, nothing is lost",
            found=said,
            where=where,
            hint="free some space, then run the same command again",
        )
    if code.startswith(UNWRITABLE):
        return RecordsError(
            f"the records cannot be written: {said}",
            where=where,
            hint="check the permissions of the file and its folder, or MORPHOGEN_RECORDS=PATH",
        )
    return RecordsError(
        f"the records cannot be used: {said}",
        where=where,
        hint=None if database.is_sqlite else "is the server running, and the URL right?",
    )
