"""A comparison ranks what was trained under equal conditions, and goes on where it stopped."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau, ttest_rel

from forks import forked
from morphogen.cli._progress import ComparisonBar, ComparisonLines
from morphogen.comparison import runs as running
from morphogen.comparison.compare import _first_round, _starved, compare, suitable
from morphogen.comparison.leaderboard import leaderboard
from morphogen.comparison.pace import Pace, Standing
from morphogen.comparison.runs import Job, Runs, why_ended
from morphogen.comparison.seeds import Seeds
from morphogen.comparison.stability import Stability, stability
from morphogen.core.bundle import Bundle
from morphogen.core.errors import DataError, RecipeError
from morphogen.core.random import generator, randint, randn
from morphogen.data.dataset import load
from morphogen.training.chain import has_begun

CHAIN = "vq_vae+autoregressive"


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
    assert [place.standing for place in board.places] == ["best", "tie", "behind"]
    best = board.places[0]
    logs = np.log([2.0, 2.1, 1.9])
    assert best.value == pytest.approx(np.exp(logs.mean()))
    # t with two degrees of freedom: 4.303 s / sqrt(3)
    half = 4.303 * logs.std(ddof=1) / 3**0.5
    assert best.high / best.value == pytest.approx(np.exp(half), rel=1e-3)
    assert "Take b" in board.advice
    assert "c is within its interval: a tie" in board.advice
    assert board.absent == {"dbn": "it failed"}


def test_families_are_compared_seed_by_seed() -> None:
    """Luck that the runs of a seed share decides nothing; the paired t-test says the same."""
    draw = np.random.default_rng(0)
    luck = np.exp(draw.normal(0, 0.5, 6))
    one, other = (luck * np.exp(draw.normal(gain, 0.1, 6)) for gain in (0.0, 0.4))
    runs = [run("a", s, v) for s, v in enumerate(one)] + [
        run("b", s, v) for s, v in enumerate(other)
    ]
    board = leaderboard(runs, "frechet_ratio", {})
    first, second = board.places
    assert first.high > second.low  # by their own intervals they could not be told apart
    assert [place.standing for place in board.places] == ["best", "behind"]
    assert "a tie" not in board.advice
    for gain in np.linspace(0, 0.4, 9):
        other = luck * np.exp(draw.normal(gain, 0.3, 6))
        runs[6:] = [run("b", s, v) for s, v in enumerate(other)]
        _, second = leaderboard(runs, "frechet_ratio", {}).places
        p = ttest_rel(np.log(one), np.log(other)).pvalue
        assert (second.standing != "behind") == (p > 0.05)


def test_families_without_common_seeds_are_compared_by_their_intervals() -> None:
    runs = [run("a", 0, 1.0), run("b", 1, 1.15), run("c", 1, 1.3)]
    board = leaderboard(runs, "frechet_ratio", {})
    assert [place.standing for place in board.places] == ["best", "tie", "behind"]


def test_two_seeds_do_not_make_a_tie_of_twenty_times() -> None:
    """The spread of all families says how far luck goes; else no one calls a tie what is none."""
    values = {"a": (1.04, 1.1), "b": (20.0, 28.0), "c": (24.0, 22.0)}
    runs = [run(name, s, v) for name, own in values.items() for s, v in enumerate(own)]
    board = leaderboard(runs, "frechet_ratio", {})
    assert [place.standing for place in board.places] == ["best", "behind", "behind"]
    # Of two families nothing but their own gap tells, and two seeds can not.
    two = leaderboard([*runs[:2], run("b", 0, 8.0), run("b", 1, 28.0)], "frechet_ratio", {})
    assert two.places[1].standing == "likely behind"
    assert "b is behind in each of 2 seeds, by 7.69 to 25.5 times" in two.advice
    assert "a tie" not in two.advice


def test_few_seeds_call_equals_apart_as_seldom_as_they_say() -> None:
    draw = np.random.default_rng(2)
    wrong = 0
    for _ in range(400):
        values = np.exp(draw.normal(0, 0.3, (5, 2)) + draw.normal(0, 1.0, 2))
        over = Seeds(
            {name: dict(enumerate(own)) for name, own in zip("abcde", values, strict=True)}
        )
        gap = over.gap("a", "b")
        wrong += gap is not None and gap.apart
    assert wrong / 400 < 0.075  # 5 %, with 2.3 standard errors of 400 trials


def test_a_run_that_lacked_the_machine_is_named_and_run_once_more(tmp_path: Path) -> None:
    jobs = [Job("x", "gan", seed, "90s", 40, (), str(tmp_path / f"gan-{seed}")) for seed in (0, 1)]
    runs = [run("gan", 0, 9.0, steps=388), run("gan", 1, 30.0, steps=11)]
    found = dict(zip(jobs, runs, strict=True))
    assert _starved(found) == [jobs[1]]
    assert (
        "gan, seed 1, made 11 steps where seed 0 made 388"
        in leaderboard(runs, "frechet_ratio", {}).advice
    )
    (tmp_path / "gan-1.starved").mkdir()
    assert _starved(found) == []


def test_who_copies_is_not_recommended() -> None:
    copier = run("copier", 0, 0.2)
    copier["evaluation"]["copying"] = {"verdict": "copies"}
    board = leaderboard([copier, run("honest", 0, 3.0)], "frechet_ratio", {})
    assert board.places[0].family == "copier"
    assert "copier replays training items" in board.advice
    assert "Take honest" in board.advice


def test_runs_that_were_not_measured_alike_are_told() -> None:
    first, second = run("a", 0, 1.0), run("b", 0, 2.0)
    first["evaluation"]["protocol"] = {"data_digest": "d", "features_sha256": "x", "seed": 0}
    second["evaluation"]["protocol"] = {"data_digest": "d", "features_sha256": "y", "seed": 1}
    board = leaderboard([first, second], "frechet_ratio", {}, {"budget": "5m"})
    assert board.protocol == {"budget": "5m", "data_digest": "d"}
    assert "not all runs were measured alike: features_sha256 differ" in board.advice


def test_stability_is_kendalls_tau_over_every_way_to_halve_the_seeds() -> None:
    draw = np.random.default_rng(0)
    scores = np.arange(5.0)[:, None] + draw.normal(0, 1.0, (5, 4))
    names = ["a", "b", "c", "d", "e"]
    found = stability({n: dict(enumerate(own)) for n, own in zip(names, scores, strict=True)})
    assert found is not None
    pairs = list(itertools.combinations(range(5), 2))
    taus, swaps = [], dict.fromkeys(pairs, 0)
    for half in ([0, 1], [0, 2], [0, 3]):
        rest = [seed for seed in range(4) if seed not in half]
        one, other = scores[:, half].mean(1), scores[:, rest].mean(1)
        taus.append(kendalltau(one, other).statistic)
        for i, j in pairs:
            swaps[i, j] += (one[i] < one[j]) != (other[i] < other[j])
    assert (found.num_seeds, found.num_splits) == (4, 3)
    assert found.tau == pytest.approx(np.mean(taus))
    assert (found.low, found.high) == pytest.approx((min(taus), max(taus)))
    wanted = {f"{names[i]} and {names[j]}": n / 3 for (i, j), n in swaps.items() if n}
    assert found.changed == pytest.approx(wanted)
    assert list(found.changed.values()) == sorted(found.changed.values(), reverse=True)


def test_an_order_without_differences_is_called_chance() -> None:
    draw = np.random.default_rng(1)
    seeds = range(6)

    def judge(spread: float) -> Stability:
        noise = spread * draw.normal(size=(6, 6))
        own = {n: {s: i + noise[i, s] for s in seeds} for i, n in enumerate("abcdef")}
        found = stability(own)
        assert found is not None
        return found

    clear = judge(0.01)
    assert (clear.tau, clear.low, clear.p) == (1.0, 1.0, 1 / 1000)
    assert not clear.changed
    assert "No two families changed places" in clear.text()
    lucky = [judge(1e6).p for _ in range(20)]
    assert sum(p <= 0.05 for p in lucky) <= 4  # at level 0.05, more of 20 come 3 times in 1,000
    assert "Places changed between" in judge(1e6).text()
    # Two families agree by chance every other time.
    two = stability({"a": {0: 1.0, 1: 1.0}, "b": {0: 2.0, 1: 2.0}})
    assert two is not None
    assert two.p == pytest.approx(0.5, abs=0.05)
    assert stability({"a": {0: 1.0}, "b": {0: 2.0}}) is None
    assert stability({"a": {0: 1.0, 1: 2.0}, "b": {0: 2.0}}) is None


def test_the_first_round_sends_home_who_is_hopeless_after_a_quarter(tmp_path: Path) -> None:
    ratios = {CHAIN: 2.0, "rbm": 8.1, "gan": 7.9}
    jobs = [Job("x", name, 0, "90s", 40, (), str(tmp_path / f"{name}-0")) for name in ratios]

    def execute(first: Sequence[Job]) -> Runs:
        assert {job.budget for job in first} == {"22.5s"}
        assert {Path(job.out).parent.name for job in first} == {"first_round"}
        for job in first:
            yield job, run(job.family, 0, ratios[job.family])

    home = _first_round(jobs, tmp_path, execute)
    assert list(home) == ["rbm"]
    assert "8.1 after 22.5s, where the best had 2" in home["rbm"]


def test_what_is_left_follows_from_the_runs_that_are_over() -> None:
    seconds = [0.0]
    pace = Pace(4, 60.0, now=lambda: seconds[0])
    assert pace.see(["a"]).remaining == 240  # the budget, as long as nothing else is known
    seconds[0] = 40.0
    assert pace.see(["a"]).remaining == 200
    seconds[0] = 100.0
    over = pace.end("a", "a: done", failed=False)  # 40 s more than its budget: to evaluate it
    assert (over.num_done, over.remaining, over.event) == (1, 300, "a: done")
    pace.see(["b", "c"])
    seconds[0] = 130.0
    two = pace.see(["b", "c"])  # 70 s of each, and one to come, by two at once
    assert (two.running, two.remaining) == (("b", "c"), 120)
    assert pace.end("b", "b: failed", failed=True).remaining == 170  # it says nothing of the pace
    assert math.isinf(Pace(2, None).see(["a"]).remaining)


def test_who_waits_sees_what_runs_and_how_long_the_rest_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    standings = [
        Standing(0, 3, ("vae, seed 0",), math.inf),
        Standing(0, 3, ("vae, seed 0",), math.inf),
        Standing(1, 3, (), 600.0, "vae, seed 0: done, 9 steps"),
        Standing(1, 3, ("gan, seed 0",), 600.0),
    ]
    for progress in (ComparisonLines(), ComparisonBar()):
        with progress:
            for standing in standings:
                progress(standing)
        said = capsys.readouterr().out
        assert said.count("vae, seed 0: done, 9 steps") == 1
        assert "about 10m00s left" in said
        assert "1/3" in said
        assert "gan, seed 0" in said


def test_the_reason_of_a_failure_is_what_went_wrong() -> None:
    said = "Traceback\nRuntimeError: shapes\n  (3, 4)\nerror: RuntimeError: shapes\n  found: 3\n"
    assert why_ended(1, said) == "RuntimeError: shapes"
    assert why_ended(1, "cannot import\n\n") == "cannot import"
    assert "memory runs out" in why_ended(-9, "")
    assert why_ended(-15, "warning") == "it was ended by SIGTERM"
    assert "exit code 3" in why_ended(3, "")


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
    assert "draws no items" in absent["vq_vae"]
    assert {"vq_vae+autoregressive", "autoencoder+flow_matching"} <= set(found)
    assert suitable(data, ["vae+flow_matching"]) == (["vae+flow_matching"], {})
    with pytest.raises(RecipeError, match=r"vae.autoregressive cannot be compared.*finite set"):
        suitable(data, ["vae+autoregressive"])
    with pytest.raises(RecipeError, match="supervised cannot be compared"):
        suitable(data, ["supervised"])
    with pytest.raises(DataError, match="from disk"):
        compare("nowhere.npz")


def test_a_comparison_trains_scores_writes_and_goes_on(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    said: list[Standing] = []
    options: dict[str, Any] = {
        "families": ["rbm", CHAIN], "budget": "12steps", "seeds": 1, "out": out, "num": 40,
        "settings": ["family.fsq_levels=3,3", "train.num_previews=1", "modality.group_by=.$"],
    }  # fmt: skip
    board = compare(pictures, on_standing=said.append, **options)
    assert [place.family for place in board.places] == [CHAIN]
    assert "fsq_levels" in board.absent["rbm"]  # which it does not have: the other run stands
    assert "runs/rbm-0/stderr.txt" in board.absent["rbm"]
    assert "expected:" in (out / "runs" / "rbm-0" / "stderr.txt").read_text()
    assert len([each for each in said if each.event]) == 2
    assert {each.running for each in said} == {("rbm, seed 0",), (f"{CHAIN}, seed 0",), ()}
    written = json.loads((out / "comparison.json").read_text())
    assert written["places"] == json.loads(json.dumps(board.to_json()))["places"]
    assert written["protocol"]["budget"] == "12steps"
    assert written["protocol"]["data_digest"] == load(pictures, group_by=".$").digest
    assert written["protocol"]["data_digest"] != load(pictures).digest
    assert {run["evaluation"]["protocol"]["data_digest"] for run in written["runs"]} == {
        written["protocol"]["data_digest"]
    }
    assert written["protocol"]["features_sha256"]
    page = (out / "comparison.html").read_text()
    assert board.advice.split(":")[0] in page
    assert page.count("data:image/png;base64,") == 1
    _check_chain(out / "runs" / f"{CHAIN}-0", written["runs"][0])
    # Again: only what failed is tried again, and the numbers are those of before.
    said.clear()
    assert compare(pictures, on_standing=said.append, **options) == board
    assert ["rbm" in each.event for each in said if each.event] == [True]
    with pytest.raises(RecipeError, match="other conditions"):
        compare(pictures, **{**options, "budget": "30steps"})


def _check_chain(folder: Path, found: dict[str, Any]) -> None:
    """A run of a chain is a bundle, and its numbers are those of all of its stages."""
    assert (folder / "evaluation.html").is_file()
    first, last = Bundle.open(folder / "1_vq_vae"), Bundle.open(folder)
    assert (first.recipe.train["budget"], last.recipe.train["budget"]) == ("4steps", "8steps")
    assert first.recipe.family["fsq_levels"] in ([3, 3], (3, 3))
    assert found["steps"] == 12
    counts = [sum(p.numel() for p in each.family.parameters()) for each in (first, last)]
    assert found["num_parameters"] == sum(counts)


def apart(job: Job, said: Path) -> None:
    """What the process of a run does, and the last that it says."""
    try:
        running._main(json.dumps(asdict(job)))
    except SystemExit as end:
        said.write_text(str(end.code))
        raise


def test_a_run_that_was_stopped_is_not_taken_for_a_whole_one(
    pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rbm-0"
    settings = ("train.num_previews=0", "train.device=cpu")
    job = Job(str(pictures), "rbm", 0, "1000000steps", 40, settings, str(out))
    said = tmp_path / "said"
    process = forked(apart, job, said)
    while process.is_alive() and not list((out / "checkpoint").glob("step_*")):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    process.join(120)
    assert "stopped before its budget was spent" in why_ended(process.exitcode, said.read_text())
    assert not (out / "run.json").exists()
    assert has_begun(out)
