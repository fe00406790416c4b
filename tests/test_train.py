"""The training loop: exact resume after kill -9, rollback from NaN, data parallelism, budgets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import morphogen as mg
from forks import forked
from morphogen.core.errors import BundleError, RecipeError, TrainingError
from morphogen.core.family import Family
from morphogen.core.random import mix_seed
from morphogen.training import loop
from morphogen.training.best import Best, by_names
from morphogen.training.loop import MOST_ROLLBACKS, Run, train_steps
from morphogen.training.options import Budget, TrainOptions
from morphogen.training.order import DataOrder
from morphogen.training.run import prepare
from morphogen.training.schedule import Schedule, TrainState

TINY = ("backbone.name=mlp", "backbone.model_dim=16", "train.batch_size=16", "train.num_previews=0")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scikit-learn's digits as an .npz file."""
    from sklearn.datasets import load_digits

    path = tmp_path_factory.mktemp("data") / "digits.npz"
    images, labels = load_digits(return_X_y=True)
    scaled = (images.reshape(-1, 8, 8) * 15.9375).astype(np.uint8)
    np.savez(path, images=scaled[:300], labels=labels[:300])
    return path


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model.safetensors")


def start(digits: Path, out: Path, steps: int, resume: bool) -> BaseProcess:
    """A training process of its own."""
    return forked(train, digits, out, steps, resume)


def train(digits: Path, out: Path, steps: int, resume: bool) -> None:
    """With a checkpoint whenever there is something to keep."""
    mg.train(
        str(digits), "flow_matching", budget=f"{steps}steps", out=out, resume=resume,
        settings=[*TINY, "train.checkpoint_every=0", "train.device=cpu"],
    )  # fmt: skip


def has_checkpoint(out: Path) -> bool:
    return bool(list((out / "checkpoint").glob("step_*")))


def test_killed_and_resumed_ends_with_the_same_weights(digits: Path, tmp_path: Path) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    train(digits, unbroken, 200, resume=False)

    kills = 0
    for waits in (0.05, 0.31, 0.17):
        process = start(digits, broken, 200, resume=(broken / "checkpoint").is_dir())
        while process.is_alive() and not has_checkpoint(broken):
            time.sleep(0.01)
        # The instant is arbitrary: inside a step, a checkpoint, a log line.
        time.sleep(waits)
        kills += process.is_alive()
        process.kill()
        process.join()
    assert kills >= 2
    if not (broken / "config.json").exists():
        mg.train(None, out=broken, resume=True)

    one, other = weights(unbroken), weights(broken)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    steps = [json.loads(line)["step"] for line in (broken / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert steps[-1] == 200


def test_ctrl_c_leaves_a_usable_bundle_and_a_checkpoint(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(digits, out, 10**6, resume=False)
    while process.is_alive() and not has_checkpoint(out):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 0
    assert len(mg.open(str(out)).sample(2).items) == 2
    assert has_checkpoint(out)


class Poisoned(torch.nn.Module):
    """Wraps a family's step so that chosen steps meet NaN."""

    def __init__(self, run: Run, bad_calls: set[int]) -> None:
        super().__init__()
        self.inner, self.bad_calls, self.calls = run.family.loss, bad_calls, 0

    def loss(self, batch, phase, generator):
        self.calls += 1
        loss, parts = self.inner(batch, phase, generator)
        return (loss * float("nan") if self.calls in self.bad_calls else loss), parts


def session(digits: Path, out: Path, *settings: str):
    return prepare(str(digits), "flow_matching", out=out, settings=[*TINY, *settings])


def test_nan_is_named_and_rolled_back(digits: Path, tmp_path: Path) -> None:
    run = session(digits, tmp_path / "a", "train.budget=120steps").run
    run.family.loss = Poisoned(run, {70}).loss
    logs = list(train_steps(run))
    events = [log.event for log in logs if log.event]
    assert len(events) == 1
    assert "became NaN" in events[0]
    assert "at step 69" in events[0]
    assert "rolled back to step 50" in events[0]
    assert run.state.step == 120
    assert run.state.rate == 0.5
    assert all(p.isfinite().all() for p in run.family.parameters())


def test_nan_without_end_is_an_error(digits: Path, tmp_path: Path) -> None:
    run = session(digits, tmp_path / "a", "train.budget=120steps").run
    run.family.loss = Poisoned(run, set(range(10, 100))).loss
    with pytest.raises(TrainingError, match=f"after {MOST_ROLLBACKS} rollbacks"):
        list(train_steps(run))


def test_forecast_changes_nothing(digits: Path, tmp_path: Path) -> None:
    plain = session(digits, tmp_path / "a", "train.budget=20steps").run
    measured = session(digits, tmp_path / "b", "train.budget=20steps")
    needs = measured.forecast()
    assert needs.num_steps == 20
    assert needs.memory_bytes > needs.disk_bytes > 0
    list(train_steps(plain))
    list(train_steps(measured.run))
    for one, other in zip(plain.family.parameters(), measured.run.family.parameters(), strict=True):
        assert torch.equal(one, other)


def test_training_leaves_the_global_generator_alone(digits: Path, tmp_path: Path) -> None:
    run = session(digits, tmp_path / "a", "train.budget=5steps").run
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    list(train_steps(run))
    assert torch.equal(torch.rand(4), expected)


def test_a_changed_data_set_is_not_resumed_on(digits: Path, tmp_path: Path) -> None:
    out, copy = tmp_path / "run", tmp_path / "digits.npz"
    content = dict(np.load(digits))
    # No other run's data: where the same lies elsewhere too, a run goes on with that.
    content["images"] = 255 - content["images"]
    np.savez(copy, **content)
    held = prepare(str(copy), "flow_matching", out=out, budget="10steps", settings=TINY)
    held.run.stop = True  # as Ctrl-C does
    held.train(lambda log: None)
    content["images"][3] = 255 - content["images"][3]
    np.savez(copy, **content)
    with pytest.raises(TrainingError, match="not what the run was started with") as raised:
        mg.train(None, out=out, resume=True)
    assert str(raised.value.found).startswith("changed digits.npz/images; digest")


def test_a_folder_that_holds_a_run_is_not_overwritten(digits: Path, tmp_path: Path) -> None:
    mg.train(str(digits), "flow_matching", budget="3steps", out=tmp_path / "a", settings=TINY)
    with pytest.raises(TrainingError, match="already holds a run"):
        mg.train(str(digits), "flow_matching", budget="3steps", out=tmp_path / "a", settings=TINY)


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nothing to resume"):
        mg.train(None, out=tmp_path, resume=True)


def test_curves_and_log_are_written(digits: Path, tmp_path: Path) -> None:
    logs = []
    bundle = mg.train(
        str(digits), "flow_matching", budget="110steps", out=tmp_path / "a",
        settings=[*TINY[:-1], "train.num_previews=2"], on_log=logs.append,
    )  # fmt: skip
    assert (tmp_path / "a" / "curves.png").stat().st_size > 5000
    assert list((tmp_path / "a" / "samples").glob("*.png"))
    assert "forecast" in logs[0].event
    assert not (tmp_path / "a" / "checkpoint").exists()
    again = mg.open(str(tmp_path / "a"))
    assert torch.equal(again.sample(3, seed=5).x, bundle.sample(3, seed=5).x)


@pytest.mark.parametrize(
    ("text", "budget"),
    [("90s", Budget(seconds=90)), ("1.5h", Budget(seconds=5400)), ("7steps", Budget(steps=7)),
     ("2 epochs", Budget(epochs=2))],
)  # fmt: skip
def test_budgets(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@pytest.mark.parametrize("text", ["", "10", "m10", "0s", "-3s", "1.2.3s", "5 parsecs"])
def test_unreadable_budgets(text: str) -> None:
    with pytest.raises(RecipeError, match="budget"):
        Budget.parse(text)


def test_every_item_comes_once_per_epoch_in_any_batch_size() -> None:
    order = DataOrder(10, 4, seed=1)
    stream = torch.cat([order.rows(step) for step in range(5)])
    assert sorted(stream[:10].tolist()) == list(range(10))
    assert sorted(stream[10:].tolist()) == list(range(10))
    assert torch.equal(order.rows(2), DataOrder(10, 4, seed=1).rows(2))
    assert len(DataOrder(3, 8, seed=0).rows(0)) == 8


def test_batches_of_one_size_miss_no_item_and_depend_on_their_number_alone() -> None:
    sizes = torch.randint(5, 60, (1003,), generator=torch.Generator().manual_seed(0))
    order = DataOrder(1003, 8, seed=1, sizes=sizes)
    batches = [order.rows(step) for step in range(260)]
    stream = torch.cat(batches)
    for epoch in range(2):
        assert sorted(stream[1003 * epoch : 1003 * (epoch + 1)].tolist()) == list(range(1003))
    spread = torch.stack([sizes[rows].max() - sizes[rows].min() for rows in batches]).float()
    assert spread.median() <= 2  # of 55
    means = torch.stack([sizes[rows].float().mean() for rows in batches])
    assert (means[1:] - means[:-1]).abs().mean() > 10  # and not the short ones first
    assert torch.equal(batches[200], DataOrder(1003, 8, seed=1, sizes=sizes).rows(200))
    assert torch.equal(
        DataOrder(5, 8, seed=1, sizes=sizes).rows(0), DataOrder(5, 8, seed=1).rows(0)
    )


def test_learning_rate_rises_holds_and_falls() -> None:
    schedule = Schedule(TrainOptions(budget="1000steps", warmup=0.1, decay=0.4), 100)
    state, rates = TrainState(), []
    while not schedule.is_over(state):
        state.increment = schedule.plan(state, 0.0)
        rates.append(schedule.rate(state))
        schedule.advance(state)
    assert rates[0] < 0.01
    assert rates[300] == rates[500] == 1.0
    assert rates[799] == pytest.approx(0.5, abs=0.01)
    assert rates[-1] < 0.01


def test_a_time_budget_lands_its_schedule_on_the_deadline() -> None:
    schedule = Schedule(TrainOptions(budget="100s"), 100)
    state, steps = TrainState(), 0
    while not schedule.is_over(state):
        pace = 0.1 if state.seconds < 50 else 0.3  # the machine gets busy half-way
        state.increment = schedule.plan(state, pace)
        state.seconds += pace
        schedule.advance(state)
        steps += 1
    assert state.progress == pytest.approx(1.0, abs=0.02)
    assert state.seconds == pytest.approx(100, abs=1)


def test_a_time_budget_keeps_a_share_for_what_comes_after_the_steps() -> None:
    assert Schedule(TrainOptions(budget="100s"), 100, 0.05).budget.seconds == pytest.approx(95)
    assert Schedule(TrainOptions(budget="70steps"), 100, 0.05).num_steps == 70


def test_mixed_seeds_do_not_clash() -> None:
    assert len({mix_seed(a, b) for a in range(50) for b in range(50)}) == 2500


@pytest.mark.parametrize(
    ("coder", "family", "settings"),
    [
        ("vae", "flow_matching", ["backbone.name=mlp"]),
        ("vq_vae", "autoregressive", ["backbone.name=rnn"]),
    ],
)
def test_a_model_in_the_latents_of_another_trains_resumes_and_samples(
    digits: Path, tmp_path: Path, coder: str, family: str, settings: list[str]
) -> None:
    small = ["backbone.model_dim=16", "train.batch_size=16", "train.num_previews=0"]
    mg.train(
        str(digits), coder, budget="30steps", out=tmp_path / "coder",
        settings=[*small, "backbone.name=conv"],
    )  # fmt: skip
    options = {"settings": [*small, *settings], "budget": "60steps"}
    through = tmp_path / "coder"
    whole = mg.train(str(digits), family, through=through, out=tmp_path / "whole", **options)
    held = prepare(str(digits), family, through=through, out=tmp_path / "held", **options)
    for log in train_steps(held.run):
        if log.snapshot is not None and log.step == 50:
            held._checkpoint(log.snapshot)
            break
    # The bundle it was trained through is no longer needed: the codec carries its weights.
    (tmp_path / "coder").rename(tmp_path / "elsewhere")
    resumed = mg.train(None, out=tmp_path / "held", resume=True)
    for name, tensor in whole.family.state_dict().items():
        assert torch.equal(resumed.family.state_dict()[name], tensor), name
    drawn = mg.open(str(tmp_path / "held")).sample(3, seed=1)
    assert [item.size for item in drawn.items] == [(8, 8)] * 3


def test_a_full_disk_is_noticed_before_training(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = session(digits, tmp_path / "a", "train.budget=10steps")
    usage = type(shutil.disk_usage(tmp_path))(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr("morphogen.training.session.shutil.disk_usage", lambda path: usage)
    with pytest.raises(TrainingError, match="not enough disk space"):
        held.train(lambda log: None)


def test_unconditional_leaves_the_labels_unlearned_and_resumes(
    digits: Path, tmp_path: Path
) -> None:
    settings = [*TINY, "train.unconditional=yes", "train.checkpoint_every=0"]
    assert mg.load(digits).conditions
    assert not mg.load(digits).unconditional().conditions
    trained = mg.train(
        digits, "flow_matching", budget="3steps", out=tmp_path / "run", settings=settings
    )
    assert trained.family.conditions == {}
    assert mg.open(tmp_path / "run").sample(2, seed=0).x.shape == (2, 1, 8, 8)

    interrupted = prepare(
        digits, "flow_matching", budget="9steps", out=tmp_path / "broken", settings=settings
    )
    interrupted.run.stop = True
    interrupted.train(lambda log: None)
    again = mg.train(None, out=tmp_path / "broken", resume=True)
    assert again.family.conditions == {}


HEART = {  # a rate at which the loss goes up and down
    "budget": "30steps",
    "settings": [*TINY, "train.lr=3e-2", "train.ema=0", "train.keep_best=0.2"],
}


def test_the_weights_that_do_best_on_items_held_back_are_kept(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 5)
    seen: dict[int, dict[str, torch.Tensor]] = {}
    see = Best.see

    def noted(self: Best, family: Family, step: int) -> float:
        found = see(self, family, step)
        seen[step] = {name: each.clone() for name, each in family.state_dict().items()}
        return found

    monkeypatch.setattr(Best, "see", noted)
    monkeypatch.setattr("morphogen.training.session.draw_curves", lambda log, picture: None)
    bundle = mg.train(str(digits), "autoencoder", out=tmp_path / "kept", **HEART)
    log = [json.loads(line) for line in (tmp_path / "kept" / "log.jsonl").read_text().splitlines()]
    looked = {line["step"]: line["held_back_loss"] for line in log if "held_back_loss" in line}
    assert sorted(looked) == list(range(5, 31, 5))
    best = min(looked, key=lambda step: looked[step])
    assert bundle.run["kept_step"] == best
    kept = weights(tmp_path / "kept")
    for name, value in kept.items():
        if name.startswith(("encoder.", "decoder.")):
            assert torch.equal(value, seen[best][name])
    assert any("held back was least" in line.get("event", "") for line in log)

    held = prepare(str(digits), "autoencoder", out=tmp_path / "parts", **HEART)
    held.train(lambda log: setattr(held.run, "stop", log.step >= 12))
    again = mg.train(None, out=tmp_path / "parts", resume=True)
    parts = weights(tmp_path / "parts")
    assert all(torch.equal(kept[name], parts[name]) for name in kept)
    assert again.run["kept_step"] == best


def test_items_held_back_are_told_by_their_names() -> None:
    names = [f"{n}.png#caption {k}" for n in range(40) for k in (1, 2)]
    learned, held = (each.tolist() for each in by_names(names, 0.1))
    assert sorted(learned + held) == list(range(80))
    owners = {names[place].split("#")[0] for place in held}
    assert len(owners) == 4
    assert len(held) == 8, "what is of one file lies on two sides"
    assert [names[k] for k in held] == [name for name in names if name.split("#")[0] in owners]
    fewer = [name for name in names if not name.startswith("7.")]  # one that joins moves few
    kept = {fewer[place] for place in by_names(fewer, 0.1)[1].tolist()}
    assert len(kept & {names[place] for place in held}) >= 6
    one_file = [f"book.txt#{k}" for k in range(50)]
    assert len(by_names(one_file, 0.1)[1]) == 5
    with pytest.raises(TrainingError, match="too few items"):
        by_names(["a"], 0.1)


def test_the_best_weights_of_what_has_no_loss_are_refused(digits: Path, tmp_path: Path) -> None:
    for share, family, match in ((0.1, "gan", "cannot be told"), (0.7, "vae", "out of range")):
        with pytest.raises(RecipeError, match=match):
            prepare(
                str(digits), family, out=tmp_path / family,
                settings=["backbone.model_dim=8", f"train.keep_best={share}"],
            )  # fmt: skip
