"""Killed at any file operation, a run goes on to the same weights: one cheap family here, all of
them in benchmarks/kills.py."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import morphogen as mg
from morphogen.training import checkpoint, loop, session

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def kills() -> Iterator[ModuleType]:
    """The harness, with runs of five steps and a checkpoint after every second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import kills as harness

        patch.setattr(loop, "SNAPSHOT_EVERY", 2)
        patch.setattr(session, "draw_curves", harness.no_curves)
        yield harness


@pytest.fixture(scope="module")
def data(kills: ModuleType) -> mg.Data:
    return kills.pictures(24)


def test_a_new_run_killed_at_every_file_operation(
    kills: ModuleType, data: mg.Data, tmp_path: Path
) -> None:
    found = kills.sweep(kills.Case("autoencoder", 3), data, tmp_path)
    assert found["wrong"] == []
    assert found["instants"] > 25
    assert set(found["ways"]) == {"begun anew", "gone on with", "whole already"}


def test_a_run_gone_on_with_killed_while_it_replaces_its_bundle(
    kills: ModuleType, data: mg.Data, tmp_path: Path
) -> None:
    case = kills.Case("autoencoder", 3).stopped(data, tmp_path / "stopped", at=1)
    assert (tmp_path / "stopped" / "config.json").is_file()
    found = kills.sweep(case, data, tmp_path, last=8)
    assert found["wrong"] == []
    assert found["ways"]["gone on with"] > 2


def test_the_harness_sees_what_would_go_wrong(
    kills: ModuleType, data: mg.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints removed file by file, as they once were, leave a folder that cannot be read."""
    monkeypatch.setattr(checkpoint, "remove_folder", shutil.rmtree)
    found = kills.sweep(kills.Case("autoencoder", 3), data, tmp_path, last=12)
    assert any("other weights" not in each for each in found["wrong"])
