"""A comparison ranks what was trained under equal conditions, and goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from morphogen.core.errors import DataError, RecipeError
from morphogen.core.random import generator, randint, randn
from morphogen.data.dataset import load
from morphogen.evaluation.compare import compare, suitable
from morphogen.evaluation.leaderboard import kendall_tau, leaderboard


def run(family: str, seed: int, value: float, **changed: Any) -> dict[str, Any]:
    scores = {
        "frechet_ratio": {
            "value": value, "low": value - 0.1, "high": value + 0.1, "higher_is_better": False,
        },
        "recall": {"value": 0.5, "higher_is_better": True},
    }  # fmt: skip
    return {
        "family": family, "seed": seed, "seconds": 60.0, "steps": 10, "num_parameters": 100,
        "memory_bytes": 10**8, "watt_hours": 0.1, "alarms": [], "sheet": None,
        "evaluation": {"scores": scores, "sampling_seconds_per_1000": 2.0},
    } | changed  # fmt: skip


def test_places_are_by_the_mean_and_ties_are_called_ties() -> None:
    runs = [run("a", s, v) for s, v in enumerate((5.0, 5.2, 4.8))]
    runs += [run("b", s, v) for s, v in enumerate((2.0, 2.1, 1.9))]
    runs += [run("c", s, v) for s, v in enumerate((2.0, 2.4, 1.7))]
    board = leaderboard(runs, "frechet_ratio", {"dbn": "it failed"})
    assert [place.family for place in board.places] == ["b", "c", "a"]
    assert [place.tie for place in board.places] == [False, True, False]
    best = board.places[0]
    assert best.value == pytest.approx(2.0)
    # t with two degrees of freedom: 4.303 s / sqrt(3), s = 0.1
    assert best.high - best.value == pytest.approx(4.303 * 0.1 / 3**0.5)
    assert "Take b" in board.advice
    assert "c is within the intervals: a tie" in board.advice
    assert board.absent == {"dbn": "it failed"}


def test_who_copies_is_not_recommended() -> None:
    copier = run("copier", 0, 0.2)
    copier["evaluation"]["copying"] = {"verdict": "copies"}
    board = leaderboard([copier, run("honest", 0, 3.0)], "frechet_ratio", {})
    assert board.places[0].family == "copier"
    assert "copier replays training items" in board.advice
    assert "Take honest" in board.advice


def test_an_order_agrees_with_itself_and_not_with_its_reverse() -> None:
    assert kendall_tau("abcd", "abcd") == 1
    assert kendall_tau("abcd", "dcba") == -1
    assert kendall_tau("abcd", "abdc") == pytest.approx(4 / 6)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 8 x 8 pictures with a bright bar, lying or standing."""
    draw = generator(0)
    labels, place = randint(2, (600,), draw), randint(8, (600,), draw)
    x = 40 + 8 * randn((600, 8, 8), draw)
    for picture, label, at in zip(x, labels, place, strict=True):
        (picture if label else picture.T)[at] = 220
    file = tmp_path_factory.mktemp("data") / "bars.npz"
    np.savez(file, images=x.clamp(0, 255).byte().numpy(), labels=labels.numpy())
    return file


def test_families_that_do_not_fit_are_absent_with_a_reason(pictures: Path) -> None:
    data = load(pictures)
    found, absent = suitable(data)
    assert "flow_matching" in found
    assert "draws no items" in absent["supervised"]
    with pytest.raises(RecipeError, match="supervised cannot be compared"):
        suitable(data, ["supervised"])
    with pytest.raises(DataError, match="from disk"):
        compare("nowhere.npz")


def test_a_comparison_trains_scores_writes_and_goes_on(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MORPHOGEN_CACHE", str(tmp_path / "cache"))
    out, said = tmp_path / "comparison", []
    options: dict[str, Any] = {
        "families": ["rbm", "vae"], "budget": "20steps", "seeds": 1, "out": out, "num": 40,
        "settings": ["family.latent_dim=4", "train.num_previews=1"],
    }  # fmt: skip
    board = compare(pictures, on_run=said.append, **options)
    assert [place.family for place in board.places] == ["vae"]
    assert "latent_dim" in board.absent["rbm"]  # which it does not have: the other run stands
    assert len(said) == 2
    written = json.loads((out / "comparison.json").read_text())
    assert written["places"] == json.loads(json.dumps(board.to_json()))["places"]
    assert (out / "runs" / "vae-0" / "evaluation.html").is_file()
    page = (out / "comparison.html").read_text()
    assert board.advice.split(":")[0] in page
    assert page.count("data:image/png;base64,") == 1
    # Again: only what failed is tried again, and the numbers are those of before.
    said.clear()
    assert compare(pictures, on_run=said.append, **options) == board
    assert ["rbm" in line for line in said] == [True]
    with pytest.raises(RecipeError, match="other conditions"):
        compare(pictures, **{**options, "budget": "30steps"})


def test_runs_on_a_local_ray_come_back_as_they_would_have_been_here(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("MORPHOGEN_CACHE", str(tmp_path / "cache"))
    options: dict[str, Any] = {"families": ["rbm"], "budget": "10steps", "seeds": 1, "num": 40}
    try:
        there = compare(pictures, on="ray", out=tmp_path / "there", **options)
    finally:
        ray.shutdown()
    here = compare(pictures, out=tmp_path / "here", **options)
    assert (tmp_path / "there" / "runs" / "rbm-0" / "model.safetensors").is_file()
    assert there.places[0].value == pytest.approx(here.places[0].value, rel=1e-4)
