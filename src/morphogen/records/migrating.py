"""The schema of the records, brought to what this version of the program expects.

`migrations/versions` holds one file for each change, in the order of their numbers. A database of
a newer program is refused, not guessed at.
"""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from morphogen.core.errors import RecordsError
from morphogen.records.database import Database
from morphogen.records.tables import Base

MIGRATIONS = Path(__file__).parent / "migrations"


def head() -> str:
    """The number of the newest schema."""
    return _scripts().get_current_head() or ""


def version_of(database: Database) -> str | None:
    """The number of a database's schema; None where it has no tables yet."""
    with database.explaining(), database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def migrate(database: Database, to: str = "head") -> None:
    """Bring the schema to a version; all of a change is made, or nothing.

    There is no way back: an older schema has no place for what was written since. Raises
    `RecordsError` where one is asked for, and where a newer program wrote the database.
    """
    scripts, now = _scripts(), version_of(database)
    known = [each.revision for each in scripts.walk_revisions()]  # newest first
    if now is not None and now not in known:
        raise RecordsError(
            "a newer version of the program wrote these records",
            found=f"schema {now}",
            expected=f"schema {head()} or older",
            where=database.name,
            hint="update the program, or restore a backup of before",
        )
    if now in known and to in known and known.index(to) > known.index(now):
        raise RecordsError(
            "records are not brought back to an older schema",
            found=f"schema {now}",
            expected=f"schema {now} or newer, not {to}",
            where=database.name,
            hint="morphogen records restore BACKUP, with the program of its time",
        )
    if now is None:
        _check_empty(database)
    if now == (head() if to == "head" else to):
        return
    with database.explaining(), database.write() as session:
        _run(session.connection(), scripts, to)


def difference(database: Database) -> list[object]:
    """What in the schema is not as `tables` says: nothing, after all migrations."""
    from alembic.autogenerate import compare_metadata

    with database.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))


def _run(connection: Connection, scripts: ScriptDirectory, to: str) -> None:
    def steps(revision: str, context: MigrationContext) -> list[object]:
        return list(scripts._upgrade_revs(to, revision))

    with EnvironmentContext(Config(), scripts, fn=steps) as environment:
        environment.configure(connection=connection, render_as_batch=True)
        environment.run_migrations()


def _check_empty(database: Database) -> None:
    with database.explaining():
        there = set(inspect(database.engine).get_table_names()) & set(Base.metadata.tables)
    if there and version_of(database) is None:  # nor did another process make them just now
        raise RecordsError(
            "there are other tables where the records should be",
            found=", ".join(sorted(there)),
            where=database.name,
            hint="name a database, or a file, of its own with MORPHOGEN_RECORDS",
        )


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(MIGRATIONS))
