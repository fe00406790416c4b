"""The ledger of what was generated: the same in a file and in the records."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")
pytest.importorskip("cryptography")

import torch

import morphogen as mg
from morphogen import records
from morphogen.core.codec import Fingerprint
from morphogen.core.ledger import Entry, Ledger, LedgerFile
from morphogen.core.result import Result
from morphogen.data.dataset import Data
from morphogen.records import ledger as kept_ledger
from morphogen.records.ledger import InstalledLedger, RecordsLedger
from morphogen.records.verifying import verify


def entries(*names: str) -> list[Entry]:
    return [
        Entry(Fingerprint((name.encode() * 16,), name.encode() * 64), f"made by {name}", 1.5)
        for name in names
    ]


def placed(ledger: Ledger) -> list[tuple[Entry, int]]:
    return [(entry, entry.place) for entry in ledger.read()]


def test_it_is_the_same_in_a_file_and_in_the_records(new_records, tmp_path):
    own = new_records()
    file, kept = LedgerFile(tmp_path / "x.ledger"), RecordsLedger(own, "image")
    for ledger in (file, kept):
        assert (ledger.size, ledger.read()) == (0, [])
        assert ledger.record(entries("a", "b", "a")) == 3
        assert ledger.record([]) == 0
        ledger.record(entries("c"))
    assert placed(kept) == placed(file)
    assert kept.size == file.size > 0
    assert RecordsLedger(own, "sound").read() == []
    for path in tmp_path.glob("records.db*"):
        assert b"made by" not in path.read_bytes()
        assert b"aaaaaaaa" not in path.read_bytes()


def test_a_file_is_taken_in_once_and_keeps_its_places(new_records, tmp_path, monkeypatch):
    own = new_records()
    file, kept = LedgerFile(tmp_path / "x.ledger"), RecordsLedger(own, "image")
    file.record(entries("a", "b"))
    whole = file.path.read_bytes()
    file.path.write_bytes(whole + whole[:30])  # a kill in the middle of a record
    file.record(entries("c"))
    before, size = placed(file), file.size
    monkeypatch.setattr(kept_ledger, "MOST", 200)  # several rows
    kept.take_in(file)
    assert (placed(kept), kept.size, file.size) == (before, size, 0)
    kept.take_in(file)
    file.record(entries("d", "a"))  # of a program that knows no records
    kept.take_in(file)
    assert [entry.about[-1] for entry in kept.read()] == ["a", "b", "c", "d"]
    assert kept.read()[-1].place == size
    assert verify(own).problems == []


def test_what_cannot_be_written_stays_in_the_file(new_records, tmp_path, monkeypatch):
    own = new_records()
    file, kept = LedgerFile(tmp_path / "x.ledger"), RecordsLedger(own, "image")
    file.record(entries("a"))
    monkeypatch.setattr(kept, "_add", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        kept.take_in(file)
    assert file.read() == entries("a")
    assert RecordsLedger(own, "image").read() == []


def test_many_write_at_once_and_no_place_is_given_twice(new_records):
    ledgers = [RecordsLedger(new_records(), "image") for _ in range(3)]
    names = [f"{number:03}" for number in range(30)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda n: ledgers[int(n) % 3].record(entries(n)), names))
    found = ledgers[0].read()
    assert sorted(entry.about[-3:] for entry in found) == names
    places = [entry.place for entry in found]
    assert places == sorted(set(places))


def test_what_was_made_for_who_is_erased_goes_and_its_place_stays(new_records):
    own = new_records()
    kept = RecordsLedger(own, "image")
    kept.record(entries("a"))
    size = kept.size
    me = own.users.local()
    own.keeping.erase(me.id)
    assert (kept.read(), kept.size) == ([], size)
    kept.record(entries("b"))  # by the next one who works here
    assert [entry.place for entry in kept.read()] == [size]


# -- where it is found -----------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with records and a cache of its own."""
    for name in ("RECORDS", "KEY_FILE", "CACHE"):
        monkeypatch.setenv(f"MORPHOGEN_{name}", str(tmp_path / name.lower()))
    return tmp_path


def made(folder: Path, seed: int) -> Path:
    """A picture that a model drew."""
    codec = Data.from_tensors(np.zeros((8, 32, 32, 3), np.uint8)).codec
    rows = np.arange(32, dtype=np.float32)
    shown = 120 * np.sin(rows[:, None] / (3 + seed) + np.cos(rows / 5) * 4)
    x = torch.from_numpy(shown / 127.5).float().expand(1, 3, 32, 32)
    return Result(x, codec=codec, made_by=f"toy, seed {seed}").save(folder / f"made{seed}.png")


def test_where_records_are_kept_it_is_there_and_else_in_a_file(here, monkeypatch):
    monkeypatch.delenv("MORPHOGEN_RECORDS")
    monkeypatch.setenv("XDG_DATA_HOME", str(here / "nobody"))
    made(here, 0)
    file = LedgerFile.of("image")
    assert Ledger.of("image") == file
    assert file.size
    monkeypatch.setenv("MORPHOGEN_RECORDS", str(here / "records"))
    made(here, 1)
    assert isinstance(Ledger.of("image"), InstalledLedger)
    assert [entry.about for entry in Ledger.of("image").read()] == ["toy, seed 0", "toy, seed 1"]
    assert file.size == 0
    with records.open() as own:
        assert RecordsLedger(own, "image").size == Ledger.of("image").size


def test_what_comes_back_is_recognised_by_the_records(here):
    from PIL import Image as Pillow

    draw = np.random.default_rng(0)
    (here / "photos").mkdir()
    for number in range(12):
        small = Pillow.fromarray(draw.integers(0, 256, (8, 8, 3)).astype(np.uint8))
        small.resize((32, 32)).save(here / "photos" / f"{number}.png")
    picture = Pillow.open(made(here, 2))
    Pillow.fromarray(np.asarray(picture)).save(here / "photos" / "back.jpg", quality=90)
    told = {each.name: each.reason for each in mg.load(here / "photos").report.problems}
    assert "recognised as generated by toy, seed 2" in told["back.jpg"]
    assert not LedgerFile.of("image").size


def test_records_that_cannot_be_read_are_told_of_and_stop_nobody(here):
    made(here, 3)
    kept_ledger._opened.cache_clear()
    (here / "records").write_bytes(b"no database" * 1000)
    for rest in ("-wal", "-shm"):
        (here / f"records{rest}").unlink(missing_ok=True)
    with pytest.warns(UserWarning, match=r"not recognised among what is read(.|\n)*is damaged"):
        assert Ledger.of("image").read() == []
    with pytest.warns(UserWarning, match="not recorded as generated"):
        assert made(here, 4).is_file()
