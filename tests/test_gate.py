"""A gate holds an evaluation to demands, and a value that may be luck does not pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from morphogen.core.errors import DataError, RecipeError
from morphogen.evaluation.gate import failures, read_gate

RECORD: dict[str, Any] = {
    "protocol": {},
    "scores": {
        "frechet_ratio": {"value": 5.0, "n": 9, "low": 3.0, "high": 8.0, "interval": "x"},
        "precision": {"value": 0.7, "n": 9, "low": 0.6, "high": 0.8, "interval": "x"},
        "bits_per_dim": {"value": 3.0, "n": 9},
    },
    "copying": {"verdict": "no sign of copying"},
}


def write(folder: Path, text: str) -> Path:
    file = folder / "gate.toml"
    file.write_text(text)
    return file


def test_demands_that_are_met_pass(tmp_path: Path) -> None:
    gate = write(
        tmp_path,
        "[frechet_ratio]\nat_most = 8\n[precision]\nat_least = 0.6\nat_most = 1\n"
        '[bits_per_dim]\nat_most = 3\n[copying]\nverdict = "no sign of copying"\n',
    )
    assert failures(RECORD, read_gate(gate)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[frechet_ratio]\nat_most = 4", "frechet_ratio: 5 (as far as 8), and the gate wants"),
        ("[frechet_ratio]\nat_most = 6", "its interval does not bear out"),
        ("[precision]\nat_least = 0.65", "precision: 0.7 (as far as 0.6), which"),
        ('[copying]\nverdict = "copies"', "copying: 'no sign of copying'"),
    ],
)
def test_demands_that_are_not_met_are_named(tmp_path: Path, text: str, said: str) -> None:
    (failure,) = failures(RECORD, read_gate(write(tmp_path, text)))
    assert said in failure


def test_a_gate_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no TOML"):
        read_gate(write(tmp_path, "[frechet"))
    with pytest.raises(RecipeError, match="'precision' cannot be read"):
        read_gate(write(tmp_path, "[precision]\nat_lest = 1"))
    with pytest.raises(DataError, match="does not exist"):
        read_gate(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="Did you mean 'precision'"):
        failures(RECORD, read_gate(write(tmp_path, "[precison]\nat_least = 1")))
