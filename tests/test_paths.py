"""`~` in an option is the home folder, wherever a verb takes a place; values stay as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from morphogen.cli import app
from morphogen.cli.app import build_app, main, with_home


def test_home_stands_for_itself_after_an_equals_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8), dtype=np.uint8)
    labels = np.array([10, 20, 30] * 8)
    np.savez(tmp_path / "home" / "a.npz", images=images, labels=labels)
    tiny = ["--set=backbone.model_dim=8", "--set=train.num_previews=0", "--budget=2steps"]
    main_ok("train", "~/a.npz", "--family=flow_matching", "--backbone=mlp", "--out=~/run", *tiny)
    main_ok("sample", "~/run", "-n", "3", "--out=~/drawn", "--label=20")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]
    assert len(list((tmp_path / "home" / "drawn").glob("*.png"))) == 3


def main_ok(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert not stop.value.code


def test_every_verb_takes_home_but_no_value_is_taken_for_a_place() -> None:
    verbs = build_app().registered_commands
    assert len(verbs) > 10
    assert all(hasattr(verb.callback, "__wrapped__") for verb in verbs)

    def verb(**given: object) -> dict[str, object]:
        return given

    home = str(Path.home())
    taken = with_home(verb)(out="~/x", inputs=["~", "a~/b", "~x"], label="~/x", cond=["~/x"], n=3)
    assert taken == {
        "out": f"{home}/x", "inputs": [home, "a~/b", "~x"], "label": "~/x", "cond": ["~/x"], "n": 3,
    }  # fmt: skip
    assert {"cond", "label", "prompt", "settings", "system", "text"} == app.VALUES
