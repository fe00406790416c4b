"""Versions of a folder: what they keep, what they share, what survives a kill."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from morphogen.core.errors import DataError
from morphogen.data.snapshot import Store, diff


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(6):
        write(tmp_path / "data" / "ab"[number % 2] / f"{number}.txt", f"item {number}")
    return tmp_path / "data"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def objects(store: Store) -> list[Path]:
    return [path for path in (store.folder / "objects").rglob("*") if path.is_file()]


def test_a_version_restores_byte_for_byte(folder, tmp_path):
    store = Store.beside(folder)
    write(folder / "big.bin", "x" * (3 << 20))
    version = store.snapshot(folder, note="first")
    before = contents(folder)
    shutil.rmtree(folder / "a")
    (folder / "big.bin").write_text("changed")
    assert store.restore(version.id[:6], tmp_path / "again") == 7
    assert contents(tmp_path / "again") == before
    assert store.version("last").note == "first"
    mtime = (tmp_path / "again" / "b" / "1.txt").stat().st_mtime_ns
    assert mtime == (folder / "b" / "1.txt").stat().st_mtime_ns


def test_an_edit_of_the_folder_does_not_reach_the_version(folder, tmp_path):
    store = Store.beside(folder)
    version = store.snapshot(folder)
    with (folder / "a" / "0.txt").open("r+") as file:
        file.write("EDIT")
    store.restore(version.id, tmp_path / "again")
    assert (tmp_path / "again" / "a" / "0.txt").read_text() == "item 0"


def test_unchanged_data_is_not_copied_and_equal_folders_are_one_version(folder):
    store = Store.beside(folder)
    first = store.snapshot(folder)
    assert (first.num_stored, len(objects(store))) == (6, 6)
    write(folder / "copy.txt", "item 3")
    second = store.snapshot(folder)
    assert (second.num_stored, len(objects(store))) == (0, 6)
    assert second.id != first.id
    (folder / "copy.txt").unlink()
    assert store.snapshot(folder).id == first.id
    assert store.versions() == [first.id, second.id, first.id]


def test_the_difference_is_added_removed_changed_renamed(folder):
    store = Store.beside(folder)
    version = store.snapshot(folder)
    assert not diff(version.id, folder)
    (folder / "a" / "0.txt").rename(folder / "moved.txt")
    write(folder / "new.txt", "new")
    (folder / "b" / "1.txt").unlink()
    (folder / "b" / "3.txt").write_text("ITEM 3")
    found = diff(version.id, folder)
    assert found.renamed == [("a/0.txt", "moved.txt")]
    assert (found.added, found.removed, found.changed) == (["new.txt"], ["b/1.txt"], ["b/3.txt"])
    assert found.num_same == 3
    later = store.snapshot(folder)
    assert diff(version.id, later.id, store=store.folder).renamed == found.renamed
    back = diff(later.id, version.id, store=store.folder)
    assert (back.added, back.removed) == (found.removed, found.added)
    assert "renamed  a/0.txt -> moved.txt" in found.text()
    assert found.brief() == "added new.txt, removed b/1.txt, changed b/3.txt and 1 more"


def test_a_change_that_keeps_size_and_time_is_seen(folder):
    """Seen within moments of the first look: the clock cannot tell, so the file is read."""
    store = Store.beside(folder)
    file = folder / "a" / "0.txt"
    stamp = file.stat().st_mtime_ns
    version = store.snapshot(folder)
    file.write_text("ITEM 0")
    os.utime(file, ns=(stamp, stamp))
    assert diff(version.id, folder).changed == ["a/0.txt"]


def test_old_files_are_not_read_again(folder):
    store = Store.beside(folder)
    past = time.time_ns() - 60 * 10**9
    for path in folder.rglob("*.txt"):
        os.utime(path, ns=(past, past))
    version = store.snapshot(folder)
    for path in objects(store):  # a file that were read again would be stored again
        path.unlink()
    assert store.snapshot(folder).id == version.id
    assert objects(store) == []


def test_links_and_the_store_itself_are_left_out(folder):
    (folder / "link.txt").symlink_to(folder / "a" / "0.txt")
    (folder / "loop").symlink_to(folder)
    version = Store.beside(folder, folder / "store").snapshot(folder)
    assert len(version.files) == 6
    assert sorted(version.skipped) == ["link.txt", "loop"]
    assert Store.beside(folder, folder / "store").snapshot(folder).id == version.id


def test_concurrent_snapshots_are_all_whole(folder, tmp_path):
    store = Store.beside(folder)
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda _: store.snapshot(folder), range(4)))
    assert len({version.id for version in versions}) == 1
    assert len(store.versions()) == 4
    assert len(objects(store)) == 6
    store.restore(versions[0].id, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)


def test_a_kill_leaves_no_half_version(folder, tmp_path):
    """The process dies after the contents, before the manifest."""
    script = (
        "import os, sys\nfrom morphogen.data import snapshot\n"
        "snapshot.write_atomic = lambda *_: os._exit(9)\n"
        "snapshot.Store.beside(sys.argv[1]).snapshot(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], check=False)
    assert done.returncode == 9
    store = Store.beside(folder)
    assert store.versions() == []
    version = store.snapshot(folder)
    store.restore(version.id, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)


def test_damage_and_wrong_names_are_told(folder, tmp_path):
    store = Store.beside(folder)
    version = store.snapshot(folder)
    with pytest.raises(DataError, match="no version 'zzz'"):
        store.version("zzz")
    with pytest.raises(DataError, match="not empty"):
        store.restore(version.id, folder)
    with pytest.raises(DataError, match="no versions are kept here"):
        Store.at(tmp_path / "nowhere")
    with pytest.raises(DataError, match="only folders"):
        store.snapshot(folder / "a" / "0.txt")
    with pytest.raises(DataError, match="does not exist"):
        store.snapshot(tmp_path / "dta")
    target = store.folder / "objects" / version.files["a/0.txt"].hash[:2]
    next(target.iterdir()).write_text("damage")
    with pytest.raises(DataError, match="missing or damaged") as error:
        store.restore(version.id, tmp_path / "again")
    assert error.value.found == "a/0.txt"
    manifest = next((store.folder / "versions").iterdir())
    manifest.write_bytes(manifest.read_bytes()[:20])
    with pytest.raises(DataError, match="damaged"):
        store.version("last")
