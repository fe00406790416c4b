"""A file is the old one or the new one, never half of either."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from morphogen.core.errors import BundleError, MorphogenError
from morphogen.core.storage import read_tensors, sha256, write_atomic, write_tensors, write_text


def test_write_text_makes_its_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    file = write_text(tmp_path / "a" / "b" / "note.txt", "hello")
    assert file.read_text() == "hello"
    assert [each.name for each in file.parent.iterdir()] == ["note.txt"]
    write_text(file, "again")
    assert file.read_text() == "again"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = write_text(tmp_path / "note.txt", "old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        raise OSError("the cable was pulled")

    with pytest.raises(MorphogenError, match="the cable was pulled") as error:
        write_atomic(file, half)
    assert error.value.where == str(tmp_path)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_other_errors_pass_through_and_leave_the_old_file(tmp_path: Path) -> None:
    file = write_text(tmp_path / "note.txt", "old")
    with pytest.raises(ZeroDivisionError):
        write_atomic(file, lambda temporary: 1 / 0)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(MorphogenError) as error:
        write_text(tmp_path / "taken" / "note.txt", "hello")
    assert "--out" in str(error.value)


def test_a_folder_without_permission(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    try:
        probe = closed / "probe"
        probe.touch()
    except PermissionError:
        with pytest.raises(MorphogenError, match="cannot write") as error:
            write_text(closed / "note.txt", "hello")
        assert "--out" in str(error.value)
    else:
        pytest.skip("this user may write everywhere")


def test_a_file_too_large_for_the_disk_leaves_the_old_one(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the write fails in the middle."""
    file = write_text(tmp_path / "weights.txt", "old")
    script = f"""
import resource, signal
from pathlib import Path
from morphogen.core.errors import MorphogenError
from morphogen.core.storage import write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_text(Path({str(file)!r}), "x" * 100_000)
except MorphogenError as error:
    print(error.message)
"""
    assert hasattr(signal, "SIGXFSZ")
    assert hasattr(resource, "RLIMIT_FSIZE")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert "cannot write weights.txt" in done.stdout, done.stderr
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_no_space_is_named(tmp_path: Path) -> None:
    """The device that is always full."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(MorphogenError, match="the disk is full") as error:
        write_atomic(tmp_path / "a.txt", lambda temporary: full.write_text("x"))
    assert "--resume" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_tensors_round_trip(tmp_path: Path) -> None:
    shared = torch.randn(4, generator=torch.Generator().manual_seed(0))
    given = {
        "a": shared,
        "b": shared,  # the same memory
        "c": torch.arange(6).view(2, 3).T,  # not contiguous
        "d": torch.tensor(3.5, requires_grad=True),
        "e": torch.tensor([True, False]),
    }
    read = read_tensors(write_tensors(tmp_path / "w.safetensors", given))
    assert read.keys() == given.keys()
    assert all(torch.equal(read[name], value) for name, value in given.items())
    assert all(read[name].dtype == value.dtype for name, value in given.items())


def test_damaged_and_missing_tensors(tmp_path: Path) -> None:
    file = write_tensors(tmp_path / "w.safetensors", {"a": torch.zeros(100)})
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(BundleError, match="damaged"):
        read_tensors(file)
    with pytest.raises(BundleError, match="missing"):
        read_tensors(tmp_path / "none.safetensors")


def test_sha256(tmp_path: Path) -> None:
    file = write_text(tmp_path / "a.txt", "abc")
    assert sha256(file).startswith("ba7816bf8f01cfea")


def test_tensors_are_written_as_the_library_writes_them(tmp_path: Path) -> None:
    tensors = {
        "b": torch.randn(3, 4), "a": torch.arange(5), "half": torch.randn(2).half(),
        "turned": torch.randn(4, 4).T, "none": torch.zeros(0, 3), "yes": torch.tensor(True),
        "small": torch.tensor([1, 2], dtype=torch.int8), "brain": torch.randn(2).bfloat16(),
        'é"x': torch.tensor([3], dtype=torch.uint16), "wide": torch.randn(2).double(),
    }  # fmt: skip
    tensors["again"] = tensors["b"]  # the same memory
    own = {name: each.contiguous().clone() for name, each in tensors.items()}
    found = write_tensors(tmp_path / "x.safetensors", tensors, {"format": "pt"})
    assert found.read_bytes() == safetensors.torch.save(own, {"format": "pt"})
