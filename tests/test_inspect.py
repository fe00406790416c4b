"""Inspection: what is in a source, what is wrong with it, and what to type next."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as Pillow

from morphogen.cli.train import _announce
from morphogen.core.errors import DataError
from morphogen.data.dataset import load
from morphogen.data.inspect import Inspection, inspect


def save(path: Path, seed: int, shape: tuple[int, ...] = (8, 8), dtype: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    top = np.iinfo(dtype).max + 1
    Pillow.fromarray(np.random.default_rng(seed).integers(0, top, shape).astype(dtype)).save(path)


def reasons(found: Inspection) -> dict[str, str]:
    return {problem.name: problem.reason for problem in found.problems}


def test_a_sound_folder(tmp_path):
    for name in ("bag", "boot"):
        for number in range(30):
            save(tmp_path / name / f"{number}.png", hash_seed(name, number))
    found = inspect(tmp_path)
    assert found.problems == []
    assert found.facts["items"] == 60
    assert found.facts["sizes"] == {"8x8": 60}
    assert found.facts["modes"] == {"L": 60}
    assert found.facts["becomes"] == "real grid 1x8x8, 256 levels"
    assert sum(found.facts["classes"].values()) <= 60
    assert found.next_command.startswith(f"morphogen train {tmp_path} ")
    assert "Nothing is wrong with it." in found.text()
    assert json.loads(json.dumps(found.to_json()))["facts"]["items"] == 60


def hash_seed(name: str, number: int) -> int:
    return {"bag": 0, "boot": 1000, "hat": 2000}[name] + number


def test_everything_that_can_be_wrong_is_told(tmp_path):
    for number in range(40):
        save(tmp_path / "bag" / f"{number}.png", number)
    save(tmp_path / "hat" / "only.png", 2000)
    save(tmp_path / "bag" / "copy.png", 3)
    save(tmp_path / "bag" / "deep.png", 500, dtype=np.uint16)
    Pillow.new("L", (8, 8), 77).save(tmp_path / "bag" / "blank.png")
    (tmp_path / "bag" / "empty.png").touch()
    (tmp_path / "bag" / "text.png").write_text("no picture")
    found = inspect(tmp_path)
    told = reasons(found)
    assert told["bag/3.png"] == "exact copies: bag/copy.png"
    assert told["bag/blank.png"] == "it is nearly constant"
    assert told["bag/empty.png"] == "the file is empty"
    assert "not a picture" in told["bag/text.png"]
    assert told["hat"] == "the class has one training item"
    assert "very unbalanced" in told["label"]
    assert found.facts["depths"] == {"uint8": 43, "uint16": 1}
    assert "skipped: 2" in found.text()
    assert "depth changed" in found.text() or found.facts["becomes"].endswith("256 levels")
    assert all(problem.fix for problem in found.problems)


def test_copies_across_train_and_test(tmp_path, capsys):
    for number in range(6):
        save(tmp_path / "train" / f"{number}.png", number)
        save(tmp_path / "test" / f"{number}.png", 100 + number)
    save(tmp_path / "test" / "leak.png", 4)
    found = inspect(tmp_path)
    (leak,) = [r for r in reasons(found).values() if "training and the test split" in r]
    assert "train/4.png" in leak or reasons(found)["test/leak.png"] == leak
    _announce(SimpleNamespace(data=load(tmp_path)), 0)  # as a training begins
    assert "in both the training and the test split: 1;" in capsys.readouterr().out


def test_a_source_that_cannot_be_trained_on_is_told_and_not_raised(tmp_path):
    save(tmp_path / "good.png", 0)
    for number in range(5):
        (tmp_path / f"bad{number}.png").write_text("no picture")
    found = inspect(tmp_path)
    assert found.error is not None
    assert len(found.problems) == 5
    text = found.text(most=3)
    assert "This cannot be trained on:" in text
    assert "and 2 more" in text
    assert found.next_command == f"morphogen inspect {tmp_path}"


def test_nothing_to_inspect(tmp_path):
    with pytest.raises(DataError, match="an empty folder"):
        inspect(tmp_path)
