"""The watch: every symptom on made-up logs, probes that touch nothing, and a few real runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

import morphogen as mg
from morphogen.core import discover
from morphogen.core.batch import Batch
from morphogen.core.recipe import Recipe
from morphogen.data.store import MemoryStore
from morphogen.training.curves import read_alarms
from morphogen.training.loop import Log, train_steps
from morphogen.training.options import TrainOptions
from morphogen.training.probe import Probe, differences, nearest
from morphogen.training.run import prepare
from morphogen.training.session import Session
from morphogen.training.symptoms import RECENT
from morphogen.training.watch import Watch, numbers_of, progress_of

NUM_LOGS = 200
TINY = ("backbone.name=mlp", "backbone.model_dim=16", "train.batch_size=16",
        "train.num_previews=0", "train.optimizer=adamw")  # fmt: skip
SHARES = np.linspace(0, 1, NUM_LOGS + 1)
NOISE = np.random.default_rng(0).normal(size=NUM_LOGS + 1)
FALLING = 4 * np.exp(-6 * SHARES)


def watch_over(family: str = "flow_matching", **options: object) -> Watch:
    return Watch.over(discover.find("family", family), TrainOptions(**options))


def kinds(watch: Watch, **series: object) -> list[str]:
    """The alarms over a run of 10 x NUM_LOGS steps, whose values are given for every log."""
    for i in range(NUM_LOGS + 1):
        values = {name.replace("__", "/"): float(np.broadcast_to(v, NUM_LOGS + 1)[i])
                  for name, v in series.items()}  # fmt: skip
        log = Log(10 * i, float(i), 0.0, 10 * NUM_LOGS, values)
        list(watch.see(log))
    return [alarm.kind for alarm in watch.alarms]


def probed(
    seen: object, held_out: object | None = None, change: object = 1e-2
) -> dict[str, object]:
    """What a probe logs."""
    return {
        "seen_loss": seen,
        "held_out_loss": seen if held_out is None else held_out,
        "loss_spread": 1.0,
        "weight_change": change,
    }


# -- symptoms --------------------------------------------------------------------------------------

ILL = {
    "exploding loss": probed(np.where(SHARES < 0.4, FALLING, 40.0)),
    "stalled loss": probed(4.0 + 1e-4 * NOISE),
    "over-training": probed(FALLING, FALLING + 5 * SHARES**2),
    "oscillating loss": probed(3.0 - SHARES + 0.9 * (-1.0) ** np.arange(NUM_LOGS + 1)),
    "clipped gradients": {"clipped": 1.0, "grad_norm": 50.0},
    "data starvation": {"data_wait": 0.7 + 0.05 * NOISE},
    "repeated rollbacks": {"rollbacks": np.where(SHARES < 0.5, 1.0, 2.0)},
    "mode collapse": {"sample_diversity": 0.02},
    "labels ignored": {"label_effect": 1e-7},
    "constant data": {"data_diversity": 0.0},
}
WELL = {
    "exploding loss": probed(np.where(SHARES < 0.4, FALLING, FALLING + 0.3 * np.abs(NOISE))),
    "stalled loss": probed(np.where(SHARES < 0.06, 4.0, 3.9 - 0.1 * SHARES)),
    "over-training": probed(FALLING, FALLING + 0.5 * SHARES**2),
    "oscillating loss": probed(FALLING + 0.05 * NOISE),
    "clipped gradients": {"clipped": np.where(SHARES < 0.05, 1.0, 0.7), "grad_norm": 50.0},
    "data starvation": {"data_wait": np.where(np.arange(NUM_LOGS + 1) % 5 == 0, 0.9, 0.1)},
    "repeated rollbacks": {"rollbacks": 1.0},
    "mode collapse": {"sample_diversity": np.where(SHARES < 0.05, 0.01, 0.5)},
    "labels ignored": {"label_effect": 0.3},
    "constant data": {"data_diversity": 0.1},
}


@pytest.mark.parametrize("kind", ILL)
def test_ill_run_raises_its_alarm_once_and_no_other(kind: str) -> None:
    watch = watch_over()
    assert kinds(watch, **ILL[kind]) == [kind]
    alarm = watch.alarms[0]
    assert alarm.found in alarm.text()
    assert "--" in alarm.hint or "morphogen" in alarm.hint


@pytest.mark.parametrize("kind", WELL)
def test_well_run_raises_none(kind: str) -> None:
    assert kinds(watch_over(), **WELL[kind]) == []


@pytest.mark.parametrize("scale", [1e-6, 1e5])
@pytest.mark.parametrize("offset", [-300.0, 0.0, 7.0])
@pytest.mark.parametrize(
    "kind", ["exploding loss", "stalled loss", "over-training", "oscillating loss"]
)
def test_losses_may_be_in_any_unit_and_of_either_sign(
    kind: str, scale: float, offset: float
) -> None:
    for runs, expected in ((ILL, [kind]), (WELL, [])):
        series = dict(runs[kind])
        for name in ("seen_loss", "held_out_loss"):
            series[name] = scale * (np.asarray(series[name]) + offset)
        series["loss_spread"] = scale
        assert kinds(watch_over(), **series) == expected


@pytest.mark.parametrize(
    ("family", "part", "ill", "well", "kind"),
    [
        ("vae", "kl", 0.001, 8.0, "posterior collapse"),
        ("vq_vae", "code_entropy", 0.02, 0.6, "dead codes"),
        ("gan", "critic__gap", 30.0, 2.0, "critic domination"),
        ("gan", "critic__gap", -30.0, -0.3, "critic domination"),
        ("rbm", "hidden_spread", 0.0, 0.2, "dead hidden units"),
        ("dbn", "hidden_spread", 0.0, 0.2, "dead hidden units"),
    ],
)
def test_families_declare_healthy_ranges(
    family: str, part: str, ill: float, well: float, kind: str
) -> None:
    assert kinds(watch_over(family), **{part: ill}) == [kind]
    assert kinds(watch_over(family), **{part: well}) == []
    # Where a part starts says nothing yet.
    assert kinds(watch_over(family), **{part: np.where(SHARES < 0.05, ill, well)}) == []
    # Nor does one odd value.
    odd = np.where(np.arange(NUM_LOGS + 1) == 100, ill, well)
    assert kinds(watch_over(family), **{part: odd}) == []


def test_weights_that_stand_still_are_told_from_a_loss_that_does() -> None:
    still, dead, moving = (watch_over() for _ in range(3))
    assert kinds(still, grad_norm=0.5, **probed(4.0, change=1e-8)) == ["stalled loss"]
    assert kinds(dead, grad_norm=0.0, **probed(4.0, change=0.0)) == ["stalled loss"]
    assert kinds(moving, grad_norm=0.5, **probed(4.0)) == ["stalled loss"]
    assert "weights change by 1e-08" in still.alarms[0].found
    assert dead.alarms[0].found == "gradient 0"
    assert moving.alarms[0].found.startswith("loss 4")
    assert kinds(watch_over("gan"), weight_change=1e-8) == ["stalled loss"]


def test_hint_for_a_low_rate_raises_it_and_for_a_high_one_lowers_it() -> None:
    low, high = watch_over("vae", lr=1e-9), watch_over("vae", lr=3.0)
    kinds(low, **ILL["stalled loss"])
    kinds(high, **ILL["exploding loss"])
    assert low.alarms[0].hint == "--set train.lr=0.003"
    assert high.alarms[0].hint == "--set train.lr=0.3"


def test_a_loss_that_is_not_a_number_explodes() -> None:
    assert kinds(watch_over(), **probed(np.where(SHARES < 0.5, FALLING, math.nan))) == [
        "exploding loss"
    ]


def test_another_stage_is_compared_with_its_own_start() -> None:
    jump = np.where(SHARES < 0.5, 1 + 4 * np.exp(-9 * SHARES), 30 * np.exp(-9 * (SHARES - 0.5)))
    assert kinds(watch_over(), stage=SHARES >= 0.5, **probed(jump)) == []
    assert kinds(watch_over(), **probed(jump)) == ["exploding loss", "over-training"][:1]


def test_one_alarm_per_episode() -> None:
    waits = np.where((SHARES < 0.3) | (SHARES > 0.6), 0.9, 0.1)
    assert kinds(watch_over(), data_wait=waits) == ["data starvation"] * 2
    unsure = np.where((SHARES < 0.3) | (SHARES > 0.6), 0.9, 0.45)  # between ill and well
    assert kinds(watch_over(), data_wait=unsure) == ["data starvation"]


def test_memory_is_bounded() -> None:
    watch = watch_over()
    for step in range(5000):
        list(watch.see(Log(step, 0.0, 0.0, 5000, {"loss": float(step)})))
    assert len(watch.history.tracks["loss"].recent) == RECENT
    assert set(vars(watch.history.tracks["loss"])) == {
        "first",
        "best",
        "best_step",
        "latest_at",
        "recent",
    }


def test_progress_follows_steps_or_seconds() -> None:
    assert progress_of(Log(50, 3.0, 99.0, 200)) == 0.25
    assert progress_of(Log(50, 3.0, 9.0)) == 0.25
    assert progress_of(Log(0, 0.0, math.inf)) == 0.0


# -- probes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scikit-learn's digits as an .npz file."""
    from sklearn.datasets import load_digits

    path = tmp_path_factory.mktemp("data") / "digits.npz"
    images, labels = load_digits(return_X_y=True)
    scaled = (images.reshape(-1, 8, 8) * 15.9375).astype(np.uint8)
    np.savez(path, images=scaled[:400], labels=labels[:400])
    return path


def session(digits: Path, out: Path, family: str, *settings: str) -> Session:
    held = prepare(str(digits), family, out=out, settings=[*TINY, *settings])
    held.probe.share = 1.0  # whatever the machine does meanwhile
    return held


@pytest.mark.parametrize(
    "family", ["flow_matching", "vae", "autoencoder", "vq_vae", "gan", "rbm", "dbn", "supervised"]
)
def test_probing_changes_nothing(digits: Path, tmp_path: Path, family: str) -> None:
    held = session(digits, tmp_path / "a", family, "train.budget=8steps")
    list(train_steps(held.run))
    held.run.family.train()
    before = {k: v.clone() for k, v in held.run.family.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    log = Log(8, 1.0, 1.0, 80, {"loss": 0.0})
    found = held.probe.measure(log)
    assert torch.equal(torch.rand(3), expected)
    assert all(module.training for module in held.run.family.modules())
    assert all(torch.equal(before[k], v) for k, v in held.run.family.state_dict().items())
    again = Probe(held.run, held.data.test).measure(log)
    assert again == found
    assert ("held_out_loss" in found) == (family != "gan")


def test_a_probed_run_ends_with_the_weights_of_one_that_is_not(
    digits: Path, tmp_path: Path
) -> None:
    plain = session(digits, tmp_path / "a", "vae", "train.budget=60steps").run
    list(train_steps(plain))
    watched = session(digits, tmp_path / "b", "vae", "train.budget=60steps", "train.ema=0.05")
    watched.train(lambda log: None)
    lines = [json.loads(line) for line in (tmp_path / "b" / "log.jsonl").read_text().splitlines()]
    assert sum("held_out_loss" in line for line in lines) >= 10
    average = plain.ema.average
    for name, tensor in watched.run.family.named_parameters():  # buffers are fitted at the end
        assert torch.equal(tensor, average[name]), name


def test_probing_stays_within_its_share(digits: Path, tmp_path: Path) -> None:
    held = session(digits, tmp_path / "a", "vae")
    probe = Probe(held.run, held.data.test)
    assert probe.is_due(Log(0, 0.0, 100.0))
    assert probe.is_affordable(Log(0, 0.0, 100.0))
    probe.measure(Log(0, 0.0, 100.0))
    logs = [Log(s, float(s), 100.0 - s, 100, {"loss": 1.0}) for s in range(1, 101)]
    assert [log.step for log in logs if probe.is_due(log)] == list(range(3, 101))  # 2.5 % on
    probe.costs = [1.0]  # seconds, for a run of a hundred
    assert not any(probe.is_affordable(log) for log in logs)
    probe.costs = [0.4]
    # 0.8 s = 1.5 % of 100 s, times the share of the run and a tenth
    assert next(log.step for log in logs if probe.is_affordable(log)) == 44
    # The weights are looked at all the same.
    assert set(probe.measure(logs[2])) == {"weight_change"}


def test_movement_of_the_weights_is_measured(digits: Path, tmp_path: Path) -> None:
    held = session(digits, tmp_path / "a", "gan", "train.budget=100steps")
    held.probe.measure(Log(0, 0.0, 1.0, 100))
    with torch.no_grad():
        for parameter in held.run.family.parameters():
            parameter *= 1.001
    found = held.probe.measure(Log(50, 1.0, 1.0, 100, {"loss": 0.0}))
    assert found["weight_change"] == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("drop_prob", "uses"), [(1.0, False), (0.1, True)])
def test_use_of_labels_is_measured(
    digits: Path, tmp_path: Path, drop_prob: float, uses: bool
) -> None:
    held = session(
        digits, tmp_path / "a", "flow_matching", "train.budget=30steps", "train.lr=0.01",
        f"family.drop_prob={drop_prob}",
    )  # fmt: skip
    list(train_steps(held.run))
    effect = held.probe.measure(Log(10, 1.0, 9.0, 100))["label_effect"]
    assert effect > 1e-3 if uses else effect == 0


def test_diversity_is_one_for_data_and_none_for_copies(digits: Path, tmp_path: Path) -> None:
    probe = session(digits, tmp_path / "a", "flow_matching").probe
    split = probe.run.split
    items = split.batch(torch.arange(36) * len(split) // 36).x
    assert probe.sample_diversity(items) == pytest.approx(1.0)
    assert probe.sample_diversity(items[:1].repeat(36, 1, 1, 1)) == 0.0
    # Four heaps are no more diverse than one.
    assert probe.sample_diversity(items[:4].repeat(9, 1, 1, 1)) == 0.0
    assert probe.sample_diversity(items[:2]) is None


def test_nearest_agrees_with_scikit_learn() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3, 5)).astype(np.float32)
    flat = x.reshape(40, -1)
    away = NearestNeighbors(n_neighbors=2).fit(flat).kneighbors(flat)[0][:, 1]
    found = nearest(torch.from_numpy(x))
    middle = np.sort(away)[19]  # of an even number, torch takes the lower middle
    assert found == pytest.approx(middle / math.sqrt(15), rel=1e-5)
    tokens = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [2, 2, 2, 2]])
    assert nearest(tokens) == pytest.approx(0.5)  # sqrt(1/4), sqrt(1/4), 1


def test_differences_are_none_for_copies_only() -> None:
    x = torch.rand(5, 1, 4, 4)
    assert differences(x) > 0
    assert differences(x[:1].repeat(5, 1, 1, 1)) == 0
    assert differences(torch.zeros(3, 7, dtype=torch.int64)) == 0


# -- real runs -------------------------------------------------------------------------------------


def alarms_of(out: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["alarm"] for line in lines if "alarm" in line]


def test_a_rate_of_nothing_is_told_in_log_bundle_and_curves(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    held = session(digits, out, "autoencoder", "train.budget=80steps", "train.lr=1e-9")
    told: list[Log] = []
    bundle = held.train(told.append)
    assert [alarm["kind"] for alarm in alarms_of(out)] == ["stalled loss"]
    assert alarms_of(out)[0]["step"] <= 20
    assert alarms_of(out) == bundle.metrics["alarms"] == mg.open(str(out)).metrics["alarms"]
    assert [log.event for log in told if log.alarm] == [held.watch.alarms[0].text()]
    assert "\n" not in held.watch.alarms[0].text()
    assert read_alarms(out / "log.jsonl") == [alarms_of(out)[0]["step"]]
    assert (out / "curves.png").stat().st_size > 5000


def test_posterior_collapse_of_a_real_vae(digits: Path, tmp_path: Path) -> None:
    held = session(digits, tmp_path / "a", "vae", "train.budget=800steps", "family.beta=1000",
                   "family.prior=normal")  # fmt: skip
    held.train(lambda log: setattr(held.run, "stop", log.step >= 200))
    assert "posterior collapse" in [alarm.kind for alarm in held.watch.alarms]


def test_a_healthy_run_is_left_alone(digits: Path, tmp_path: Path) -> None:
    held = session(digits, tmp_path / "a", "vae", "train.budget=200steps", "train.num_previews=2")
    bundle = held.train(lambda log: None)
    assert bundle.metrics["alarms"] == []


def test_a_slow_loader_is_noticed(digits: Path, tmp_path: Path) -> None:
    class Slow(MemoryStore):
        def batch(self, index: torch.Tensor) -> Batch:
            torch.randn(400, 400, 4).sort()  # busy, for longer than a step takes
            return super().batch(index)

    held = session(digits, tmp_path / "a", "autoencoder", "train.budget=40steps")
    split = held.run.split
    held.run.split = Slow(split.spec, split.x, split.cond, split.names)
    held.train(lambda log: None)
    assert "data starvation" in [alarm.kind for alarm in held.watch.alarms]


def test_a_resumed_run_remembers_its_alarms(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    held = session(
        digits, out, "autoencoder", "train.budget=100steps", "train.lr=1e-9",
        "train.checkpoint_every=0",
    )  # fmt: skip
    held.train(lambda log: setattr(held.run, "stop", log.step >= 50))
    before = alarms_of(out)
    assert [alarm["kind"] for alarm in before] == ["stalled loss"]
    again = Session.resumed(None, out, Recipe())
    bundle = again.train(lambda log: None)
    assert alarms_of(out) == before  # the same episode: not told twice
    assert bundle.metrics["alarms"] == before


def test_a_log_read_back_gives_the_numbers_written() -> None:
    log = Log(7, 1.23456, 3.0, 10, {"loss": -0.1 / 3, "seen_loss": 1e-30}, alarm={"kind": "x"})
    assert numbers_of(json.loads(json.dumps(log.to_json()))) == log.values
