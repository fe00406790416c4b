"""Records over time: encrypted on the disk, backed up, rotated, erased, found damaged, killed."""

from __future__ import annotations

import base64
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")
pytest.importorskip("cryptography")

from sqlalchemy import event, select, text

from morphogen import records
from morphogen.core.errors import RecordsError
from morphogen.records import backup, database
from morphogen.records.keyring import Keyring
from morphogen.records.prompts import Message
from morphogen.records.rotating import rotate
from morphogen.records.searching import Filters
from morphogen.records.tables import Fragment
from morphogen.records.verifying import verify

SECRETS = ("Ann Á", "zebra-prompt", "quokka-answer", "okapi-why", "narwhal-file", "tapir-stop")


def filled(own, tmp_path, person="Ann Álvarez"):
    """A person who asked something, was answered, rated it; the id."""
    user = own.users.add(person, "maker")
    uid = own.generations.start(
        "a zebra-prompt please", model="bard", task="complete", user=user.id,
        parameters={"stop": "tapir-stop"},
    )  # fmt: skip
    file = tmp_path / "narwhal-file.png"
    file.write_bytes(b"png")
    own.generations.finish(uid, "one quokka-answer", files=[file])
    own.annotations.add(uid, value=4, explanation="okapi-why", user=user.id)
    return uid


def holds(path: Path, words: tuple[str, ...]) -> list[str]:
    data = path.read_bytes()
    forms = {word: (word.encode(), word.encode("utf-16-le"), word[:5].encode()) for word in words}
    return [word for word, each in forms.items() if any(form in data for form in each)]


def test_no_plain_text_is_on_the_disk_and_words_are_found(new_records, tmp_path):
    own = new_records()
    uid = filled(own, tmp_path)
    own.templates.save("greet", "wombat-template")
    kept = backup.back_up(own, tmp_path / "kept.backup")
    files = [kept, *tmp_path.glob("records.db*")]
    assert own.database.path is None or len(files) >= 3  # the log is there too
    for file in files:
        assert holds(file, (*SECRETS, "wombat-template")) == []
    assert holds(kept, ("complete", "bard")) == ["complete", "bard"]  # what is plain is seen
    for query in ("zebra", "quokka answer", "okap*"):
        assert [each.id for each in own.search(query)] == [uid]
    assert own.generations.get(uid).parameters == {"stop": "tapir-stop"}
    assert [path.name for path in own.generations.get(uid).files] == ["narwhal-file.png"]


def test_contents_cannot_be_moved_or_changed_unseen(new_records, tmp_path):
    own = new_records()
    filled(own, tmp_path)
    assert verify(own).problems == []
    with own.database.write() as session:
        first, second = session.scalars(select(Fragment).order_by(Fragment.id))
        first.content = second.content
    found = verify(own)
    assert any("a content of the records was changed" in each for each in found.problems)
    with pytest.raises(RecordsError, match="morphogen records restore"):
        own.search()


def test_a_backup_goes_back_into_either_database(new_records, new_database, tmp_path):
    own = new_records()
    uid = filled(own, tmp_path)
    base = own.prompts.put([Message.of("user", "first"), Message.of("assistant", "second")])
    kept = backup.back_up(own, tmp_path / "kept.backup")
    assert own.database.last_backup().startswith(f"{kept} of 20")
    filled(own, tmp_path, "Bob")
    for place in (tmp_path / "again.db", new_database()):
        backup.restore(kept, place).close()
        with records.open(place, key=tmp_path / "records.key") as again:
            assert [each.id for each in again.search("zebra")] == [uid]
            assert [m.text for m in again.prompts.path(base)] == ["first", "second"]
            assert verify(again).problems == []
            more = filled(again, tmp_path, "Cleo")  # rows are numbered on
            assert again.search.count() == 2
            assert again.search()[0].id == more
        with pytest.raises(RecordsError, match="there are records already"):
            backup.restore(kept, place)
    (tmp_path / "bad.backup").write_bytes(kept.read_bytes()[: 5 * 4096])
    with pytest.raises(RecordsError, match="the backup is damaged"):
        backup.restore(tmp_path / "bad.backup", tmp_path / "bad.db")
    with pytest.raises(RecordsError, match="there is a file already"):
        backup.back_up(own, kept)


def test_who_was_erased_stays_erased(new_records, tmp_path):
    own = new_records()
    uid, other = filled(own, tmp_path), filled(own, tmp_path, "Bob")
    ann = own.users.get("Ann Álvarez")
    _, word = own.keys.new("hers", "read", user=ann.id)
    own.annotations.add(other, "style", explanation="platypus", user=ann.id)
    assert own.search.count("platypus") == 1
    kept = backup.back_up(own, tmp_path / "kept.backup")
    elsewhere = new_records()  # a server that goes on meanwhile, with the keys in its memory
    assert len(elsewhere.search("zebra")) == 2
    assert own.keeping.erase("Ann Álvarez") == 1
    for each in (own, elsewhere):
        assert [found.id for found in each.search("zebra")] == [other]
        assert each.search.count("platypus") == 0
        gone = each.generations.get(uid)
        assert (gone.user, gone.text, gone.files, dict(gone.parameters)) == ("erased", "\n", (), {})
        with pytest.raises(RecordsError, match="not known"):
            each.keys.authenticate(word)
        with pytest.raises(RecordsError, match="nothing more is recorded of a person who was"):
            each.generations.start("x", model="bard", task="complete", user=ann.id)
    assert verify(own).problems == []
    backup.restore(kept, tmp_path / "again.db").close()
    with records.open(tmp_path / "again.db", key=tmp_path / "records.key") as again:
        assert again.generations.get(uid).text == "\n"
        assert again.users.get(ann.id).name == "erased"
        assert [found.id for found in again.search("zebra")] == [other]


def test_keys_are_rotated_while_others_work(new_records, tmp_path):
    own, server = new_records(), new_records()
    uid = filled(own, tmp_path)
    old = (tmp_path / "records.key").read_bytes()
    assert server.search("zebra")
    rotate(own)
    for each in (own, server, new_records()):
        assert each.generations.get(uid).answer.text == "one quokka-answer"
        filled(each, tmp_path, f"person {id(each)}")
    assert len(new_records().search("zebra")) == 4
    ring = Keyring.open(tmp_path / "records.key")
    (tmp_path / "records.key").write_bytes(old)
    with pytest.raises(RecordsError, match="the key is not that of these records"):
        new_records()
    # Killed in the middle, the file holds both keys, in either order.
    for keys in ([*Keyring.open(tmp_path / "records.key").keys, *ring.keys], ring.keys):
        Keyring(keys, tmp_path / "records.key").save()
        assert len(new_records().search("zebra")) == 4
    assert (tmp_path / "records.key").stat().st_mode & 0o077 == 0


def test_records_are_kept_for_as_long_as_their_rule_says(new_records, tmp_path):
    own = new_records()
    rated = filled(own, tmp_path)
    plain = own.generations.start("a zebra", model="bard", task="complete")
    own.generations.finish(plain, "no")
    running = own.generations.start("a zebra", model="bard", task="complete")
    now = time.time() + 10 * 86400
    assert own.keeping.apply(now=now) == {}
    own.keeping.set("generations", 5 * 86400)
    assert own.keeping.apply(now=now - 6 * 86400) == {"generations": 0}
    assert own.keeping.apply(now=now) == {"generations": 1}
    assert [each.id for each in own.search("zebra")] == [running, rated]
    own.keeping.set("rated", 86400)
    assert own.keeping.apply(now=now) == {"generations": 0, "rated": 1}
    assert [each.id for each in own.search()] == [running]
    report = verify(own)
    assert (report.counts["fragments"], report.counts["words"]) == (1, 3)  # of the running one
    own.keeping.set("rated", None)
    assert own.keeping.rules() == {"generations": 5 * 86400}
    with pytest.raises(RecordsError, match="there is no rule for 'prompts'"):
        own.keeping.set("prompts", 1)


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path):
    with records.open(tmp_path / "records.db", key=tmp_path / "records.key") as opened:
        filled(opened, tmp_path)
        yield opened


def reopened(tmp_path):
    return records.open(tmp_path / "records.db", key=tmp_path / "records.key")


def test_a_lost_key_is_said_and_no_new_one_made(own, tmp_path):
    (tmp_path / "records.key").rename(tmp_path / "elsewhere.key")
    with pytest.raises(RecordsError, match=r"not there(.|\n)*put the key file back"):
        reopened(tmp_path)
    assert not (tmp_path / "records.key").exists()
    (tmp_path / "records.key").write_text("{}")
    with pytest.raises(RecordsError, match="the key file cannot be read"):
        reopened(tmp_path)
    with pytest.raises(RecordsError, match="16 bytes"):
        records.open(tmp_path / "records.db", key=b"0" * 16)


def test_a_damaged_database_names_its_backup(own, tmp_path):
    kept = backup.back_up(own, tmp_path / "kept.backup")
    own.close()
    file = tmp_path / "records.db"
    file.write_bytes(b"x" * 4096 + file.read_bytes()[4096:])
    with pytest.raises(RecordsError, match="is damaged") as caught:
        reopened(tmp_path)
    assert f"morphogen records restore {kept}" in str(caught.value)
    file.rename(tmp_path / "damaged.db")
    backup.restore(kept, file).close()
    with reopened(tmp_path) as again:
        assert len(again.search("zebra")) == 1


def test_records_of_a_newer_program_are_left_alone(own, tmp_path):
    with own.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RecordsError, match="a newer version of the program"):
        reopened(tmp_path)


def test_other_tables_are_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / "records.db") as other:
        other.execute("CREATE TABLE users (x)")
    other.close()
    with pytest.raises(RecordsError, match="there are other tables"):
        reopened(tmp_path)


def test_a_database_in_use_is_waited_for_and_then_said(own, tmp_path, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    other = sqlite3.connect(tmp_path / "records.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with reopened_for_reading(tmp_path) as waiting, pytest.raises(RecordsError, match="are in use"):
        waiting.generations.start("x", model="bard", task="complete")
    other.execute("COMMIT")
    other.close()
    own.generations.start("x", model="bard", task="complete")


def reopened_for_reading(tmp_path):
    """Records whose connections are made while somebody else writes: opening writes nothing."""
    from morphogen.records.database import Database
    from morphogen.records.records import Records

    opened = Records(Database(tmp_path / "records.db"), Keyring.open(tmp_path / "records.key"))
    with opened.database.read() as session:
        opened.seals.load_index(session)
    return opened


def test_a_full_disk_loses_nothing(own):
    own.database.close()
    event.listen(own.database.engine, "connect", lambda c, _: c.execute("PRAGMA max_page_count=1"))
    before = own.search.count()
    with pytest.raises(RecordsError, match=r"disk of the records is full"):
        own.generations.start("word " * 20_000, model="bard", task="complete")
    assert own.search.count() == before


WRITER = """
import sys
from morphogen import records
own = records.open(sys.argv[1], key=sys.argv[2])
for number in range(10_000):
    uid = own.generations.start(f"zebra {number}", model="bard", task="complete")
    own.generations.finish(uid, "yes")
    own.audit.note("tested", str(number))
    print(uid, flush=True)
"""


def test_two_processes_are_killed_and_no_acknowledged_answer_is_lost(own, tmp_path):
    given = [str(tmp_path / "records.db"), str(tmp_path / "records.key")]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, *given], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = []
    for writer in writers:
        told += [writer.stdout.readline().strip() for _ in range(10)]
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        told += [line.strip() for line in writer.stdout if re.fullmatch(r"\w{20}\n", line)]
        writer.wait()
        writer.stdout.close()
    with reopened(tmp_path) as again:
        kept = {each.id: each.state for each in again.search.every("zebra", Filters(model="bard"))}
        assert set(told) <= {uid for uid, state in kept.items() if state == "finished"}
        cut = again.generations.cut_abandoned()
        assert cut == sum(state == "started" for state in kept.values()) <= 2
        assert verify(again).problems == []


def test_keys_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MORPHOGEN_KEY", base64.b64encode(b"k" * 32).decode())
    monkeypatch.setenv("MORPHOGEN_RECORDS", str(tmp_path / "own.db"))
    with records.open() as own:
        filled(own, tmp_path)
        with pytest.raises(RecordsError, match="the key is not in a file"):
            rotate(own)
    with records.open(key=b"k" * 32) as own:
        assert len(own.search("zebra")) == 1
    monkeypatch.setenv("MORPHOGEN_KEY", "short")
    with pytest.raises(RecordsError, match="this is no key"):
        records.open()
