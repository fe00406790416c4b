"""A fast sample of benchmarks/fuzz.py: damaged files end in one plain error, in every verb."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

NUM = 60


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("fuzz", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


def test_nothing_but_results_and_plain_errors(fuzz: ModuleType, tmp_path: Path) -> None:
    counts, findings = fuzz.fuzz(range(NUM), tmp_path)
    assert [f"{each.kind} {each.target} {each.seed}: {each.what}" for each in findings] == []
    assert counts["refused"] > NUM / 4
    assert counts["result"] > 0


def test_a_traceback_would_be_counted(fuzz: ModuleType) -> None:
    kind, what = fuzz.outcome(lambda: {}["nothing"])
    assert kind == "traceback"
    assert "KeyError" in what


def test_the_same_case_is_damaged_in_the_same_way(fuzz: ModuleType, tmp_path: Path) -> None:
    texts = set()
    for _ in range(2):
        file = tmp_path / "a.json"
        file.write_text('{"a": [1, {"b": "c"}], "d": 2}')
        fuzz.damage(file, random.Random(7))
        texts.add(file.read_bytes())
    assert len(texts) == 1
