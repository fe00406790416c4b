"""Backups: one SQLite file each, whatever the records lie in, and back into either.

A backup holds what the database holds, contents encrypted as they are there; the key is not in it.
It is written whole or not at all, while others go on writing, and checked before it counts.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, text, update

from morphogen.core.errors import RecordsError, missing_path
from morphogen.core.storage import expanded, write_atomic
from morphogen.records.database import Database
from morphogen.records.migrating import migrate, version_of
from morphogen.records.tables import Base

if TYPE_CHECKING:
    from morphogen.records.records import Records

PAGE = 5000  # rows copied at once
TABLES = Base.metadata.sorted_tables  # what is referred to comes first


def back_up(records: Records, out: Path | str | None = None) -> Path:
    """Write a backup to a file that does not exist; by default beside the database, by its time."""
    database = records.database
    path = expanded(out) if out else _default(database)
    if path.exists():
        raise RecordsError("there is a file already", where=path, hint="--out another file")

    def write(temporary: Path) -> None:
        temporary.unlink()
        if database.is_sqlite:
            _copy_file(database, temporary)
        else:
            target = Database(temporary)
            try:
                migrate(target)
                copy(database, target)
                _settle(target)
            finally:
                target.close()
        check(temporary)
        for rest in ("-wal", "-shm"):
            temporary.with_name(temporary.name + rest).unlink(missing_ok=True)

    write_atomic(path, write, mode=0o600)
    database.note_backup(path.absolute())
    records.audit.note("records.backup", path.name)
    return path


def restore(backup: Path | str, place: Path | str) -> Database:
    """Put a backup where there are no records yet. Raises `RecordsError` where there are, or the
    backup is damaged."""
    source = expanded(backup)
    if not source.is_file():
        raise missing_path(source)
    check(source)
    target = Database(place)
    if target.path is not None:
        if target.exists:
            raise _occupied(target)
        for rest in ("-wal", "-shm"):  # of a database that was moved away
            target.path.with_name(target.path.name + rest).unlink(missing_ok=True)
        write_atomic(target.path, lambda temporary: shutil.copyfile(source, temporary), mode=0o600)
    else:
        if version_of(target) is not None:
            raise _occupied(target)
        with tempfile.TemporaryDirectory() as folder:
            # Of an older program it may be: brought up to date, which the backup itself is not.
            kept = Database(shutil.copyfile(source, Path(folder, "kept.db")))
            try:
                migrate(kept)
                migrate(target)
                copy(kept, target)
            finally:
                kept.close()
    return target


def check(path: Path) -> None:
    """Raise `RecordsError` unless a backup is a whole database of records."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            said = [row[0] for row in connection.execute("PRAGMA integrity_check")]
            connection.execute("SELECT value FROM settings WHERE name = 'key'").fetchone()[0]
    except (sqlite3.Error, TypeError) as error:
        said = [str(error)]
    if said != ["ok"]:
        raise RecordsError(
            "the backup is damaged, or none", found="; ".join(said[:3]), where=path,
            hint="take another one: ls -t " + str(path.parent),
        )  # fmt: skip


def copy(source: Database, target: Database) -> None:
    """Copy every row of one database into another of the same schema, at one moment."""
    snapshot = {} if source.is_sqlite else {"isolation_level": "REPEATABLE READ"}
    connected = source.engine.connect().execution_options(**snapshot)
    with source.explaining(), connected as old, old.begin(), target.write() as session:
        new = session.connection()
        for table in TABLES:
            _copy_table(table, old, new)
        if not target.is_sqlite:
            _count_on(new)


def _copy_table(table: Table, old: Connection, new: Connection) -> None:
    """All rows; what refers to rows of the same table follows when they are all there."""
    own = [key.parent for key in table.foreign_keys if key.column.table is table]
    new.execute(delete(table))
    query = select(table).order_by(*table.primary_key.columns)
    for page in old.execution_options(yield_per=PAGE).execute(query).mappings().partitions(PAGE):
        blank = {column.name: None for column in own}
        new.execute(insert(table), [{**row, **blank} for row in page])
    for column in own:
        referring = select(table.c.id.label("row"), column.label("to")).where(column.is_not(None))
        pairs = [dict(row) for row in old.execute(referring).mappings()]
        if pairs:
            change = update(table).where(table.c.id == bindparam("row"))
            new.execute(change.values({column.name: bindparam("to")}), pairs)


def _count_on(connection: Connection) -> None:
    """Let PostgreSQL number new rows after those that were copied."""
    for table in TABLES:
        if "id" not in table.columns:
            continue
        newest = connection.execute(select(func.max(table.c.id))).scalar()
        sequence = connection.execute(
            text("SELECT pg_get_serial_sequence(:t, 'id')"), {"t": table.name}
        ).scalar()
        if newest is not None and sequence is not None:
            connection.execute(
                text("SELECT setval(CAST(:s AS regclass), :n)"), {"s": sequence, "n": newest}
            )


def _copy_file(database: Database, path: Path) -> None:
    assert database.path is not None
    with (
        closing(sqlite3.connect(database.path)) as source,
        closing(sqlite3.connect(path)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")


def _settle(target: Database) -> None:
    """All of it into the one file."""
    with target.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.execute("PRAGMA journal_mode=DELETE")


def _default(database: Database) -> Path:
    now = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    if database.path is not None:
        return database.path.with_name(f"{database.path.stem}-{now}.backup")
    return Path(f"records-{now}.backup")


def _occupied(target: Database) -> RecordsError:
    return RecordsError(
        "there are records already: nothing is overwritten",
        where=target.name,
        hint="move them away, or name another place with --to",
    )
