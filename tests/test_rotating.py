"""A new key for records: everything is encrypted anew, and a kill in the middle loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")
pytest.importorskip("cryptography")

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import LargeBinary, select, update

from morphogen.core.errors import RecordsError
from morphogen.records.contents import CONTENTS
from morphogen.records.keyring import NONCE, Keyring
from morphogen.records.ledger import RecordsLedger
from morphogen.records.rotating import replaced, rotate
from morphogen.records.sealing import HEAD
from morphogen.records.tables import Base, DataKey, Fragment
from morphogen.records.verifying import verify


def filled(own, tmp_path, num=3):
    """Something in every table that holds contents."""
    ann = own.users.add(f"ann {len(own.users.all())}", "maker")
    uids = []
    for number in range(num):
        uid = own.generations.start(
            f"a zebra {number}", model="bard", task="complete", user=ann.id,
            parameters={"n": number},
        )  # fmt: skip
        (tmp_path / "made.png").write_bytes(b"x")
        own.generations.finish(uid, f"quokka {number}", files=[tmp_path / "made.png"])
        own.annotations.add(uid, value=4, explanation="lovely", user=ann.id)
        uids.append(uid)
    own.templates.save("greet", "Hello {name}")
    own.runs.start("vae", "/m", {"seed": 1})
    own.deeds.add("snapshot", tmp_path)
    RecordsLedger(own, "image").append(b"bytes of a ledger")
    return uids


def sealed(own) -> list[bytes]:
    """Every encrypted value."""
    with own.database.read() as session:
        return [each.sealed for contents in CONTENTS for each in contents.all(session)]


def data_keys(own, ring: Keyring) -> dict[int, bytes]:
    """What somebody who has a key file and a copy of the database can unwrap."""
    found = {}
    with own.database.read() as session:
        for row in session.scalars(select(DataKey)):
            try:
                found[row.id] = ring.unwrap(row.wrapped, row.name)
            except RecordsError:
                continue
    return found


def opened(values: list[bytes], keys: Mapping[int, bytes], purposes: list[str]) -> int:
    """How many values somebody reads who tries every key that they have."""
    num = 0
    for value, purpose in zip(values, purposes, strict=True):
        start = HEAD.size + NONCE
        for key in keys.values():
            try:
                AESGCM(key).decrypt(value[HEAD.size : start], value[start:], purpose.encode())
            except InvalidTag:
                continue
            num += 1
    return num


def purposes(own) -> list[str]:
    with own.database.read() as session:
        return [each.purpose for contents in CONTENTS for each in contents.all(session)]


def test_contents_names_every_encrypted_column():
    """Whatever holds bytes and is no keyed hash: a new column has to be thought of."""
    hashes = {"blind", "hash", "chain", "address", "digest", "wrapped"}
    columns = {
        (table.name, column.name)
        for table in Base.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary) and column.name not in hashes
    }
    named = {(each.table.__tablename__, each.column.key) for each in CONTENTS}
    assert columns == named
    assert len(CONTENTS) == len(named)


def test_nothing_is_left_that_the_old_key_reads(new_records, tmp_path):
    own, server = new_records(), new_records()
    uids = filled(own, tmp_path)
    server.search("zebra")  # has keys in its memory
    ring = Keyring.open(tmp_path / "records.key")
    stolen, before = data_keys(own, ring), sealed(own)
    assert opened(before, stolen, purposes(own)) == len(before) > 15
    batches = []
    done = rotate(own, on_batch=batches.append)
    assert (done.went_on, done.num, done.unread) == (False, len(before), 0)
    assert batches[-1] == done.num
    stolen |= data_keys(own, ring)  # as they are wrapped now
    after = sealed(own)
    assert len(after) == len(before)
    assert not set(after) & set(before)
    assert opened(after, stolen, purposes(own)) == 0
    files = list(tmp_path.glob("records.db*"))
    raw = b"".join(file.read_bytes() for file in files)
    assert not [value for value in before if value in raw]  # nor in freed pages, nor in the log
    assert bool(raw) == own.database.is_sqlite
    for each in (own, server, new_records()):
        assert {found.id for found in each.search("zebra")} >= set(uids)
        assert each.generations.get(uids[0]).annotations[0].explanation == "lovely"
        more = filled(each, tmp_path, 1)[0]
        assert each.generations.get(more).answer.text == "quokka 0"
    with own.database.read() as session:
        assert replaced(session) == []
    assert len(Keyring.open(tmp_path / "records.key").keys) == 1
    assert verify(own).problems == []


ROTATING = """
import sys
from morphogen import records
from morphogen.records import rotating
rotating.BATCH = 2
with records.open(sys.argv[1], key=sys.argv[2]) as own:
    print("open", flush=True)
    rotating.rotate(own, on_batch=lambda num: print(num, flush=True))
"""


def test_killed_in_the_middle_it_goes_on(new_records, tmp_path):
    own = new_records()
    uids = filled(own, tmp_path, 6)
    url = own.database.path or own.database.engine.url.render_as_string(hide_password=False)
    process = subprocess.Popen(
        [sys.executable, "-c", ROTATING, str(url), str(tmp_path / "records.key")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    for _ in range(4):
        assert process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    again = new_records()
    assert {each.id for each in again.search("zebra")} == set(uids)
    with again.database.read() as session:
        assert replaced(session)
    (said,) = verify(again).problems
    assert "rotate goes on with it" in said
    before = sealed(own)
    done = rotate(again)
    assert done.went_on
    assert 0 < done.num < len(before)
    assert verify(again).problems == []
    assert len(Keyring.open(tmp_path / "records.key").keys) == 1
    assert {each.id for each in new_records().search("zebra")} == set(uids)
    assert sealed(own) != before


def test_killed_before_the_database_knows_of_it_no_key_is_lost(new_records, tmp_path):
    """The key file holds a key that the database never heard of, first of the two."""
    own = new_records()
    uids = filled(own, tmp_path)
    file = tmp_path / "records.key"
    ring = Keyring.open(file)
    Keyring([os.urandom(32), *ring.keys], file).save()
    rotate(new_records())
    assert {each.id for each in new_records().search("zebra")} == set(uids)
    assert len(json.loads(file.read_text())["keys"]) == 1


def test_what_was_changed_is_left_and_told_of(new_records, tmp_path):
    own = new_records()
    filled(own, tmp_path)
    with own.database.write() as session:
        session.execute(update(Fragment).where(Fragment.id == 1).values(content=b"\1" + bytes(60)))
    done = rotate(own)
    assert done.unread == 1
    assert verify(own).problems != []
    assert rotate(own).went_on is False  # what cannot be opened does not stop the next one
    assert own.search.count("zebra") == 3
