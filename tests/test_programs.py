"""Programs that work beside us: the same answers in the same order, whatever becomes of them."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import psutil
import pytest

from morphogen.core import programs
from morphogen.core.codec import Report
from morphogen.core.programs import answered

SOURCE = Path(__file__).resolve().parents[1] / "src"
PROGRAM = """
import os
from morphogen.core.programs import serve

def answer(number):
    if number == 13:
        os._exit(1)
    return [number * number, os.getpid()]

if __name__ == "__main__":
    serve(answer)
"""


@pytest.fixture
def squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a program that squares numbers, and dies of 13."""
    (tmp_path / "squares.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{SOURCE}")
    monkeypatch.setattr(programs, "num_cores", lambda: 2)
    return "squares"


def here(number: int) -> Any:
    return [number * number, 0]


def test_programs_answer_in_order_and_a_dead_one_costs_no_answer(squares: str) -> None:
    asked: list[int] = []

    def questions() -> Any:
        for number in range(40):
            asked.append(number)
            yield number

    answers = answered(squares, here, questions(), alone=3)
    first = [next(answers) for _ in range(5)]
    assert len(asked) <= 3 + 2 + 4  # what is under way stays little
    every = [*first, *answers]
    assert [square for square, _ in every] == [number * number for number in range(40)]
    assert [pid for _, pid in every[:3]] == [0, 0, 0]
    assert every[13][1] == 0  # of which its program died
    workers = {pid for _, pid in every} - {0}
    assert 1 <= len(workers) <= 2
    assert not any(map(psutil.pid_exists, workers))


def test_none_outlives_who_asks(squares: str) -> None:
    answers = answered(squares, here, range(100))
    _, pid = next(answers)
    assert pid
    answers.close()  # as Ctrl-C does
    assert not psutil.pid_exists(pid)
    left = Popen([sys.executable, "-P", "-m", squares], stdin=PIPE, stdout=PIPE)
    left.communicate(b"3\n", timeout=60)  # whose input ends, as when its parent is killed
    assert left.returncode == 0


def test_with_one_core_all_is_done_here(squares: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "num_cores", lambda: 1)
    assert list(answered(squares, here, range(3))) == [[0, 0], [1, 0], [4, 0]]


def test_molecules_are_the_same_read_by_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rdkit")
    from morphogen.modalities.molecule import Molecule, reading
    from morphogen.sources import delimited

    smiles = ["c1ccccc1O", "CC(=O)Nc1ccc(O)cc1", "OCC", "C1CC", "", "CCO.[Na+]", "c1ccc1c", "N#N"]
    rows = [f"{name}|{i}" for i, name in enumerate(smiles * 4)]
    path = tmp_path / "some.csv"
    path.write_text("\n".join(["smiles|mw", *rows]))
    monkeypatch.setattr(reading, "FEW", 0)
    monkeypatch.setattr(reading, "TOGETHER", 5)
    monkeypatch.setattr(delimited, "BATCH", 5)
    found = []
    for cores in (1, 2):
        monkeypatch.setattr(programs, "num_cores", lambda cores=cores: cores)
        codec, report = Molecule(properties="logp,mw", column="smiles"), Report("some")
        items = list(codec.read(path, report))
        codec.fit(items)
        problems = [(each.name, each.reason, each.fix) for each in report.problems]
        found.append((items, problems, report.facts, report.num_read, codec.state()))
    assert found[0] == found[1]
    assert len(found[0][1]) == 12
