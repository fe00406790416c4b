"""Records of every released schema, opened by the program as it is now."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")
pytest.importorskip("cryptography")

from sqlalchemy import MetaData, select

import first_records
from morphogen import records
from morphogen.core.errors import RecordsError
from morphogen.records import backup
from morphogen.records.database import Database
from morphogen.records.migrating import difference, head, migrate, version_of
from morphogen.records.quotas import Quota
from morphogen.records.searching import Filters
from morphogen.records.verifying import verify


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """The key file of the first records."""
    told = {"keys": [base64.b64encode(first_records.RING).decode()], "forgotten": []}
    path = tmp_path / "records.key"
    path.write_text(json.dumps(told))
    return path


@pytest.fixture
def item(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    path = tmp_path / "photos" / "boot.png"
    path.write_bytes(b"a boot")
    return path


def rows(place: str | Path, schema: MetaData) -> dict[str, list[tuple]]:
    """Every row of a schema's tables, read from the database where it is empty."""
    database = Database(place)
    if not schema.tables:
        schema.reflect(database.engine)
    with database.read() as session:
        tables = schema.sorted_tables
        found = {each.name: [tuple(r) for r in session.execute(select(each))] for each in tables}
    database.close()
    return found


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_first_records_are_read_whole(kind, request, tmp_path, key, item):
    place: str | Path = tmp_path / "records.db"
    if kind == "postgresql":
        place = request.getfixturevalue("new_database")()
    num = first_records.write(place, item)
    schema = MetaData()
    before = rows(place, schema)
    with records.open(place, key=key) as own:
        assert version_of(own.database) == head() != "0001"
        assert difference(own.database) == []
        after = rows(place, schema)
        for each in (before, after):
            del each["alembic_version"]
        assert after == before  # every row, as it was
        report = verify(own)
        assert (report.problems, report.num_opened, report.num_forgotten) == ([], num, 0)
        assert all(report.counts[name] == len(each) > 0 for name, each in before.items())
        (found,) = own.search("zebra quok*", Filters(at_least=5, user=1))
        whole = own.generations.get(found.id)
        assert (whole.text, whole.user, whole.files) == (
            "a zebra please\none quokka", "ann", (Path("/a.png"),)
        )  # fmt: skip
        assert (whole.parameters, whole.annotations[0].explanation) == ({"top_p": 0.9}, "lovely")
        assert own.keys.authenticate(first_records.KEY).user.name == "ann"
        assert own.sign_ins.authenticate(first_records.SESSION).user.id == 1
        assert own.templates.get("greet@production").fill(name="you") == "Hello you"
        (held,) = own.datasets.holding(item)
        assert held.dataset.place == str(item.parent)
        assert own.models.evaluations(own.models.get("boots").id)[0].record == {"scores": {}}
        assert own.runs.get(1).about["place"] == "/m"
        assert own.keeping.rules() == {"generations": 86400.0}
        # What the new schema has room for goes on from there.
        own.quotas.set(1, [Quota.parse("2 generations/day")])
        uid = own.generations.start("more", model="boots", task="chat", user=1, key=1)
        own.generations.finish(uid, "of it")
        assert own.quotas.standing(1)[0].left == 1
        with pytest.raises(RecordsError, match="not brought back to an older schema"):
            migrate(own.database, "0001")
        assert version_of(own.database) == head()


def test_a_backup_of_the_first_program_goes_into_either_database(new_database, tmp_path, key, item):
    kept = tmp_path / "kept.backup"
    first_records.write(kept, item)
    for place in (tmp_path / "again.db", new_database()):
        backup.restore(kept, place).close()
        with records.open(place, key=key) as own:
            assert verify(own).problems == []
            assert own.search.count("zebra") == 1
            own.generations.start("more", model="boots", task="chat", user=1)
    database = Database(kept)
    assert version_of(database) == "0001"  # a backup stays what it was
    database.close()
