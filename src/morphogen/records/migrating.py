"""The schema of the records, brought to what this version of the program expects.

`migrations/versions` holds one file for each change, in the order of their numbers. A database of
a newer program is refused, not guessed at. Alembic makes the changes, and is imported where there
is one to be made: which schema there is, its table tells.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from morphogen.core.errors import RecordsError
from morphogen.records.database import Database
from morphogen.records.tables import Base

MIGRATIONS = Path(__file__).parent / "migrations"


def versions() -> list[str]:
    """The numbers of all schemas, oldest first."""
    files = (MIGRATIONS / "versions").glob("v[0-9]*.py")
    return sorted(file.name[1:].partition("_")[0] for file in files)


def head() -> str:
    """The number of the newest schema."""
    return versions()[-1]


def version_of(database: Database) -> str | None:
    """The number of a database's schema; None where it has no tables yet."""
    with database.explaining(), database.engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return found


def migrate(database: Database, to: str = "head") -> None:
    """Bring the schema to a version; all of a change is made, or nothing.

    There is no way back: an older schema has no place for what was written since. Raises
    `RecordsError` where one is asked for, and where a newer program wrote the database.
    """
    known, now = versions(), version_of(database)
    if now is not None and now not in known:
        raise RecordsError(
            "a newer version of the program wrote these records",
            found=f"schema {now}",
            expected=f"schema {head()} or older",
            where=database.name,
            hint="update the program, or restore a backup of before",
        )
    if now in known and to in known and known.index(to) < known.index(now):
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
        _run(session.connection(), to)


def difference(database: Database) -> list[object]:
    """What in the schema is not as `tables` says: nothing, after all migrations."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))


def _run(connection: Connection, to: str) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(MIGRATIONS))

    def steps(revision: str, context: object) -> list[object]:
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
