"""A bundle's record is enough to make it again, bit by bit; and what differs is named."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import morphogen as mg
from morphogen.cli.app import main
from morphogen.comparison.reproduce import differing, reproduce, score_again
from morphogen.core import discover
from morphogen.core.errors import BundleError, DataError, TrainingError
from morphogen.core.measurement import Measurement
from morphogen.core.spec import TensorSpec
from morphogen.core.storage import cache_folder, sha256
from morphogen.training.loop import train_steps
from morphogen.training.options import TrainOptions
from morphogen.training.run import prepare
from morphogen.training.schedule import Replay, Schedule, TrainState
from morphogen.training.session import Session

TINY = ("backbone.name=mlp", "backbone.model_dim=16", "train.batch_size=16", "train.num_previews=0")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright and dark 8x8 pictures in two class folders."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    draw = np.random.default_rng(0)
    for label, low in (("dark", 0), ("light", 128)):
        (folder / label).mkdir(parents=True)
        for i in range(40):
            picture = draw.integers(low, low + 128, (8, 8), dtype=np.uint8)
            Image.fromarray(picture).save(folder / label / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def by_steps(pictures: Path) -> Path:
    """A bundle after eleven steps."""
    out = pictures.parent / "by_steps"
    mg.train(str(pictures), "flow_matching", budget="11steps", out=out, settings=TINY)
    return out


@pytest.fixture
def bundle(by_steps: Path, tmp_path: Path) -> Path:
    """A copy of it to be changed."""
    return Path(shutil.copytree(by_steps, tmp_path / "bundle"))


def changed(bundle: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change config.json."""
    config = json.loads((bundle / "config.json").read_text())
    change(config)
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle


def steps_of(bundle: Path) -> int:
    return json.loads((bundle / "config.json").read_text())["run"]["steps"]


def train_to(step: int, session: Session) -> None:
    """Train and stop, as Ctrl-C would, at the first log from `step` on."""

    def stop(log: Any) -> None:
        session.run.stop = session.run.stop or log.step >= step

    session.train(stop)


# -- the schedule --------------------------------------------------------------------------------


def test_a_schedule_by_time_is_replayed_at_another_pace() -> None:
    options = TrainOptions(budget="100s")
    first, state = Schedule(options, 100), TrainState()
    made = []
    while not first.is_over(state):
        pace = 0.3 if 20 < state.seconds < 50 else 0.1
        state.increment = first.plan(state, pace)
        made.append((state.progress, state.increment, first.rate(state)))
        state.seconds += pace
        first.advance(state)
    kept = first.record()
    assert kept is not None
    replay = Replay(options, 100, steps=len(made), increments=kept.tolist())
    again, state = [], TrainState()
    while not replay.is_over(state):
        state.increment = replay.plan(state, 17.0)
        again.append((state.progress, state.increment, replay.rate(state)))
        state.seconds += 1000.0
        replay.advance(state)
    assert again == made
    assert replay.remaining(TrainState(step=len(made) - 2), 3.0) == 6.0


def test_a_schedule_by_steps_that_was_stopped_is_that_of_the_whole() -> None:
    options = TrainOptions(budget="300steps")
    whole, replay = Schedule(options, 100), Replay(options, 100, steps=200)
    first, second = TrainState(), TrainState()
    while not replay.is_over(second):
        first.increment, second.increment = whole.plan(first, 0.0), replay.plan(second, 0.0)
        assert whole.rate(first) == replay.rate(second)
        whole.advance(first)
        replay.advance(second)
    assert first == second
    assert second.step == 200
    assert second.progress == 200 / 300


def test_rollbacks_are_replayed_from_the_step_that_they_went_back_to() -> None:
    replay = Replay(TrainOptions(budget="9steps"), 100, steps=9, rolled_back=[0, 4, 4])
    state, seen = TrainState(), []
    while not replay.is_over(state):
        replay.plan(state, 0.0)
        seen.append(state.rate)
        replay.advance(state)
    assert seen == [0.5] * 4 + [0.125] * 5


# -- the same again ------------------------------------------------------------------------------


def test_a_run_by_steps_comes_out_identical(by_steps: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    found = mg.reproduce(
        by_steps, out=tmp_path / "again", on_start=lambda found: heard.append(found.verdict)
    )
    assert (found.verdict, found.tensors, found.changes) == ("identical", {}, [])
    assert heard == ["not trained"]
    assert sha256(by_steps / "model.safetensors") == sha256(tmp_path / "again/model.safetensors")
    assert any("no scores are recorded" in note for note in found.notes)
    with pytest.raises(TrainingError, match="not overwritten"):
        mg.reproduce(by_steps, out=tmp_path / "again")


def takes_pictures(family: str) -> bool:
    spec, label = TensorSpec("real", (1, 8, 8), levels=256), {"label": TensorSpec.label(2)}
    return discover.find("family", family).refusal(spec, label) is None


@pytest.mark.parametrize("family", list(filter(takes_pictures, discover.names("family"))))
def test_every_family_comes_out_identical(family: str, pictures: Path, tmp_path: Path) -> None:
    out, small = tmp_path / "bundle", ("train.batch_size=8", "train.num_previews=0")
    mg.train(str(pictures), family, budget="6steps", out=out, settings=small)
    mg.evaluate(out, num=20)
    found = reproduce(out, out=tmp_path / "again")
    assert found.verdict == "identical", found.text()
    assert {each.verdict for each in found.scores} == {"equal"}


def test_a_run_by_time_comes_out_identical_at_another_pace(pictures: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    mg.train(
        str(pictures), "flow_matching", budget="1s", out=slow, settings=TINY,
        on_log=lambda log: time.sleep(0.02),
    )  # fmt: skip
    found = mg.reproduce(str(slow))
    assert found.verdict == "identical", found.text()
    assert Path(found.again) == tmp_path / "slow-again"
    assert steps_of(slow) == steps_of(Path(found.again)) == found.steps > 1
    # The schedule decides: with the same number of steps as the budget, other weights come out.
    other = mg.train(
        str(pictures), "flow_matching", budget=f"{found.steps}steps", out=tmp_path / "other",
        settings=TINY,
    )  # fmt: skip
    assert differing(mg.open(str(slow)).family.state_dict(), other.family.state_dict())
    # What was reproduced can be reproduced.
    first, second = mg.open(str(slow)).increments, mg.open(found.again).increments
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)


def test_stopped_killed_and_resumed_by_time_comes_out_identical(
    pictures: Path, tmp_path: Path
) -> None:
    out, settings = tmp_path / "broken", [*TINY, "train.checkpoint_every=0"]
    held = prepare(str(pictures), "flow_matching", budget="1000s", out=out, settings=settings)
    train_to(1, held)
    made = steps_of(out)
    # Killed without warning after some more steps: those since the last checkpoint are lost.
    killed = prepare(None, out=out, resume=True)
    for log in train_steps(killed.run):
        if log.step > made:
            break
    train_to(made + 1, prepare(None, out=out, resume=True))
    assert steps_of(out) > made
    assert (out / "schedule.safetensors").stat().st_size < 200 + 8 * steps_of(out)
    assert mg.reproduce(out).verdict == "identical"


def test_a_run_that_met_nan_comes_out_identical_without_meeting_it(
    pictures: Path, tmp_path: Path
) -> None:
    held = prepare(
        str(pictures), "flow_matching", budget="70steps", out=tmp_path / "a", settings=TINY
    )
    loss, calls = held.run.family.loss, []

    def poisoned(batch: Any, phase: str, generator: Any) -> Any:
        calls.append(phase)
        each, parts = loss(batch, phase, generator)
        # Eight steps, at most, are taken for the forecast; the rest are the run's.
        return (each * float("nan") if held.run.state.step in bad else each), parts

    bad = {60}
    held.run.family.loss = poisoned

    def mend(log: Any) -> None:
        if log.event and "rolled back" in log.event:
            bad.clear()

    held.train(mend)
    assert json.loads((tmp_path / "a/config.json").read_text())["run"]["rolled_back"] == [50]
    assert mg.reproduce(tmp_path / "a").verdict == "identical"


def test_a_reproduction_that_was_stopped_goes_on(by_steps: Path, tmp_path: Path) -> None:
    pressed: list[int] = []

    def interrupt(log: Any) -> None:
        if log.step == 3 and not pressed:
            pressed.append(log.step)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(TrainingError, match="stopped before its end") as error:
        mg.reproduce(by_steps, out=tmp_path / "again", on_log=interrupt)
    assert "3 of 11 steps" in str(error.value)
    assert mg.reproduce(by_steps, out=tmp_path / "again").verdict == "identical"


def test_no_other_run_is_gone_on_with(by_steps: Path, pictures: Path, tmp_path: Path) -> None:
    other = prepare(
        str(pictures), "flow_matching", budget="12steps", out=tmp_path / "other", settings=TINY
    )
    other._checkpoint(other.run.snapshot())
    with pytest.raises(TrainingError, match="holds another run"):
        mg.reproduce(by_steps, out=tmp_path / "other")


def test_a_model_in_the_latents_of_another_comes_out_identical(
    pictures: Path, tmp_path: Path
) -> None:
    coder = tmp_path / "coder"
    small = ["backbone.model_dim=16", "train.batch_size=16", "train.num_previews=0"]
    mg.train(
        str(pictures), "vae", budget="5steps", out=coder, settings=[*small, "backbone.name=conv"]
    )
    mg.train(
        str(pictures), "flow_matching", through=coder, budget="9steps", out=tmp_path / "latent",
        settings=[*small, "backbone.name=mlp"],
    )  # fmt: skip
    shutil.rmtree(coder)  # the bundle holds its weights
    found = mg.reproduce(tmp_path / "latent")
    assert found.verdict == "identical", found.text()
    assert "latents of another model" in found.text()


def test_data_in_memory_is_handed_over(pictures: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    data = mg.Data.from_tensors(x)
    mg.train(data, "flow_matching", budget="5steps", out=tmp_path / "a", settings=TINY)
    with pytest.raises(DataError, match="not known"):
        mg.reproduce(tmp_path / "a")
    again = mg.Data.from_tensors(x)
    assert mg.reproduce(tmp_path / "a", data=again, dry_run=True).data is None


def test_how_the_data_was_read_is_in_the_record(pictures: Path, tmp_path: Path) -> None:
    data = mg.load(str(pictures), group_by=r"(\d)\.png$", size=4)
    plain = mg.load(str(pictures), size=4)
    assert data.digest != plain.digest
    mg.train(data, "flow_matching", budget="3steps", out=tmp_path / "a", settings=TINY)
    assert mg.reproduce(tmp_path / "a", dry_run=True).data is None


# -- what differs --------------------------------------------------------------------------------


def test_files_that_changed_are_named_and_nothing_is_trained(
    pictures: Path, bundle: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(pictures, tmp_path / "pictures"))
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(folder / "dark/03.png")
    (folder / "light/05.png").unlink()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(folder / "dark/new.png")
    (folder / "dark/09.png").rename(folder / "dark/moved.png")
    found = mg.reproduce(bundle, data=folder)
    assert found.verdict == "different"
    assert not found.is_trained
    assert not Path(found.again).exists()
    assert found.data is not None
    assert found.data.changed == ["dark/03.png"]
    assert found.data.removed == ["light/05.png"]
    assert found.data.added == ["dark/new.png"]
    assert found.data.renamed == [("dark/09.png", "dark/moved.png")]
    assert "changed  dark/03.png" in found.text()
    # The data as it was, in another place.
    assert mg.reproduce(bundle, data=pictures, dry_run=True).verdict == "not trained"
    (bundle / "data_files.json.gz").unlink()
    assert "no list of its files" in mg.reproduce(bundle, data=folder).text()


def test_a_label_that_changed_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "digits.npz"
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (60, 8, 8), dtype=np.uint8), np.arange(60) % 2
    np.savez(file, images=images, labels=labels)
    mg.train(str(file), "flow_matching", budget="2steps", out=tmp_path / "a", settings=TINY)
    labels[3] = 1 - labels[3]
    np.savez(file, images=images, labels=labels)
    found = mg.reproduce(tmp_path / "a")
    assert found.data is not None
    assert found.data.changed == ["digits.npz/images"]
    assert found.data.num_same == 0


def test_weights_that_were_tampered_with_are_named(bundle: Path) -> None:
    file = bundle / "model.safetensors"
    tensors = load_file(file)
    name = next(n for n, t in tensors.items() if t.dim() == 2 and t.abs().max() > 0)
    place = tensors[name].abs().flatten().argmax()
    tensors[name].view(-1)[place] *= 1.5
    save_file(tensors, file)
    changed(bundle, lambda config: config["files"].update({file.name: sha256(file)}))
    found = reproduce(bundle)
    assert found.verdict == "different"
    assert found.tensors == {name: pytest.approx(1 / 3, rel=1e-5)}
    assert f"{name}: by 0.33" in found.text()
    assert "nothing in the record says why" in found.text()
    assert replace(found, tolerance=0.5).verdict == "the same within 0.5"


def test_differences_are_bit_by_bit_and_relative() -> None:
    zero = {"w": torch.tensor([0.0, 2.0]), "n": torch.tensor(3), "same": torch.tensor([1.0])}
    minus = {"w": torch.tensor([-0.0, 2.0]), "n": torch.tensor(4), "same": torch.tensor([1.0])}
    assert differing(zero, minus) == {"w": 0.0, "n": pytest.approx(1 / 3)}
    nan = {"w": torch.tensor([float("nan")]), "a": torch.ones(2)}
    other = {"w": torch.tensor([1.0]), "a": torch.ones(3), "b": torch.ones(1)}
    assert differing(nan, other) == dict.fromkeys("abw", float("inf"))
    assert differing(nan, nan) == {}


def test_another_environment_is_said_before_training(bundle: Path) -> None:
    def older(config: dict[str, Any]) -> None:
        config["run"]["environments"][0] |= {"torch_version": "1.0.0", "code_sha256": "0" * 64}

    found = reproduce(changed(bundle, older), dry_run=True)
    assert found.verdict == "not trained"
    assert {change.fact for change in found.changes} == {"torch version", "code sha256"}
    assert f"torch version was 1.0.0, now {torch.__version__}" in found.text()


def test_a_run_in_two_places_says_from_where_on(bundle: Path) -> None:
    def moved(config: dict[str, Any]) -> None:
        first = config["run"]["environments"][0]
        config["run"]["environments"].append({**first, "from_step": 5, "hardware": "abacus"})

    found = reproduce(changed(bundle, moved), dry_run=True)
    assert [change.fact for change in found.changes] == ["hardware from step 5 on"]


def test_the_number_of_threads_is_that_of_the_record(bundle: Path) -> None:
    def two(config: dict[str, Any]) -> None:
        config["run"]["environments"][0]["num_threads"] = 2

    seen: list[int] = []
    before = torch.get_num_threads()
    found = reproduce(
        changed(bundle, two), dry_run=True, on_start=lambda _: seen.append(torch.get_num_threads())
    )
    assert found.changes == []
    assert seen == [2]
    assert torch.get_num_threads() == before


def test_a_bundle_without_a_record_and_one_of_the_future(bundle: Path) -> None:
    changed(bundle, lambda config: config["run"]["environments"].clear())
    with pytest.raises(BundleError, match="does not record all"):
        reproduce(bundle)
    changed(bundle, lambda config: config.pop("run"))
    with pytest.raises(BundleError, match="older version of Morphogen"):
        reproduce(bundle)
    changed(bundle, lambda config: config.update(version=9, written_by="7.1"))
    with pytest.raises(BundleError, match=re.escape("version 9, of Morphogen 7.1")) as error:
        reproduce(bundle)
    assert f"this is Morphogen {mg.__version__}" in str(error.value)


def test_data_that_is_gone(bundle: Path) -> None:
    changed(bundle, lambda config: config["data"].update(digest="0" * 32))
    with pytest.raises(DataError, match="--data FOLDER"):
        reproduce(bundle)


# -- scores --------------------------------------------------------------------------------------


def test_scores_are_taken_again_by_the_same_judge_and_compared(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mg.evaluate(str(bundle), num=40)
    file = bundle / "metrics.json"
    metrics = json.loads(file.read_text())
    name, score = next(
        (n, each) for n, each in metrics["evaluation"]["scores"].items() if "low" in each
    )
    shifted = {end: 10 * abs(score["high"]) + score[end] for end in ("value", "low", "high")}
    metrics["evaluation"]["scores"][name] = score | shifted
    file.write_text(json.dumps(metrics))
    # Without the judge that comes with the bundle another one would be trained here.
    shutil.copytree(cache_folder() / "places", bundle.parent / "another" / "places")
    monkeypatch.setenv("MORPHOGEN_CACHE", str(bundle.parent / "another"))
    found = reproduce(bundle)
    assert found.tensors == {}
    verdicts = {each.name: each.verdict for each in found.scores}
    assert verdicts.pop(name) == "differs"
    assert len(verdicts) > 3
    assert set(verdicts.values()) == {"equal"}
    assert found.verdict == "different"
    assert not list((bundle.parent / "another").glob("features-*"))


def test_scores_compare_within_intervals_and_protocols() -> None:
    def score(value: float, half: float, torch_version: str = "2") -> Measurement:
        protocol = {"torch_version": torch_version, "seed": value}
        return Measurement(
            "frechet", value, 100, False, value - half, value + half, "95 %", protocol=protocol
        )

    assert score_again(score(3.0, 0.0), score(3.0, 0.0)).verdict == "equal"
    assert score_again(score(3.0, 0.6), score(4.0, 0.6)).verdict == "within the interval"
    assert score_again(score(3.0, 0.4), score(4.0, 0.4)).verdict == "differs"
    assert "torch_version differs" in score_again(score(3, 1), score(3, 1, "1")).verdict
    assert "not measured now" in score_again(score(3, 1), None).verdict


# -- the command line ----------------------------------------------------------------------------


def run(*arguments: str) -> object:
    try:
        main(list(arguments))
    except SystemExit as stop:
        return stop.code
    return 0


def test_the_verb_prints_and_exits(
    bundle: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "again")
    assert not run("reproduce", str(bundle), "--dry-run", "--json")
    assert json.loads(capsys.readouterr().out)["verdict"] == "not trained"
    assert not run("reproduce", str(bundle), "--out", out)
    said = capsys.readouterr().out
    assert "are those of the record" in said
    assert "identical" in said
    assert run("reproduce", str(bundle), "--out", out) == 1
    assert "not overwritten" in capsys.readouterr().err
    changed(bundle, lambda config: config["data"].update(digest="0" * 32))
    assert run("reproduce", str(bundle), "--data", str(pictures), "--json") == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["verdict"] == "different"
    assert "the code reads or encodes them otherwise" in printed["notes"][0]
