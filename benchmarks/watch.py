"""Does the watch see what goes wrong, in time, and keep quiet when nothing does?

    OMP_NUM_THREADS=1 python benchmarks/watch.py                 # both tables
    OMP_NUM_THREADS=1 python benchmarks/watch.py --only vae      # recipes with vae in their name
    OMP_NUM_THREADS=1 python benchmarks/watch.py --seed 1        # other weights, order and draws
    OMP_NUM_THREADS=1 python benchmarks/watch.py --logs DIR      # keep the logs there
    OMP_NUM_THREADS=1 python benchmarks/watch.py --replay DIR    # judge kept logs anew

Failing recipes are stopped after a quarter of their budget: an alarm of the right kind has to have
come by then. Healthy ones run to the end: no alarm may come. Two small data sets: the digits of
scikit-learn (8 x 8, 1,797) and blurred rings drawn here (8 x 8, 1,500, no labels).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from morphogen.core import discover
from morphogen.core.batch import Batch
from morphogen.core.errors import TrainingError
from morphogen.data.dataset import Data
from morphogen.data.store import MemoryStore
from morphogen.training.loop import Log
from morphogen.training.options import TrainOptions
from morphogen.training.run import prepare
from morphogen.training.session import Session
from morphogen.training.watch import Watch, numbers_of

QUARTER = 0.25
STEPS = 800


# -- data ------------------------------------------------------------------------------------------


def digits(num: int = 1797) -> Data:
    """Handwritten digits with labels."""
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8) * 15.9375).astype(np.uint8)
    return Data.from_tensors(images[:num], labels[:num])


def few_digits() -> Data:
    """Twenty-four digits to learn from, and 300 others held out."""
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8) * 15.9375).astype(np.uint8)
    return Data.from_tensors(
        images[:24], labels[:24], test=images[24:324], test_labels=labels[24:324]
    )


def rings(num: int = 1500) -> Data:
    """Blurred rings of every place and radius, in black and white where `levels` is 2."""
    rng = np.random.default_rng(0)
    centre, radius = rng.uniform(2.5, 4.5, (num, 2, 1, 1)), rng.uniform(1.0, 3.0, (num, 1, 1))
    grid = np.arange(8.0)
    away = np.sqrt((grid[:, None] - centre[:, 0]) ** 2 + (grid[None] - centre[:, 1]) ** 2)
    return Data.from_tensors((255 * np.exp(-2 * (away - radius) ** 2)).astype(np.uint8))


def constant() -> Data:
    """One picture, 200 times."""
    return Data.from_tensors(np.repeat(digits().train.x[:1].numpy()[:, 0], 200, axis=0))


# -- harm done by hand -----------------------------------------------------------------------------


class Throttled(MemoryStore):
    """A split that takes its time."""

    def batch(self, index: torch.Tensor) -> Batch:
        """Twice as long as a step takes."""
        time.sleep(0.2)
        return super().batch(index)


def throttle(session: Session) -> None:
    """Slow the loader down."""
    split = session.run.split
    session.run.split = Throttled(split.spec, split.x, split.cond, split.names)


def break_codebook(session: Session) -> None:
    """All entries of the codebook fall together."""
    quantiser: Any = session.run.family.quantiser
    quantiser.prepare = lambda z, generator: quantiser.points.fill_(1.0)


def fast_critic(session: Session) -> None:
    """The critic learns a hundred times as fast as the generator."""
    for optimizer in session.run.updates["critic"].optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] *= 100


def slow_generator(session: Session) -> None:
    """The generator hardly learns, and the critic does."""
    for optimizer in session.run.updates["generator"].optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] /= 1000


def deaf_generator(session: Session) -> None:
    """The generator does not hear its noise: it can draw one item only."""
    family: Any = session.run.family
    draw = family._noise
    family._noise = lambda num, generator: 0 * draw(num, generator)


def poison(session: Session) -> None:
    """Every seventieth loss is NaN."""
    family, calls = session.run.family, [0]
    loss = family.loss

    def poisoned(batch: Batch, phase: str, generator: torch.Generator) -> Any:
        value, parts = loss(batch, phase, generator)
        calls[0] += family.training
        return (value * float("nan") if calls[0] % 70 == 69 else value), parts

    family.loss = poisoned  # type: ignore[method-assign]


def no_harm(session: Session) -> None:
    """Nothing."""


# -- recipes ---------------------------------------------------------------------------------------


@dataclass
class Case:
    """One run: what is trained, on what, and what the watch is to say of it."""

    name: str
    family: str
    data: Callable[[], Data]
    expected: str = ""  # kind of the alarm; nothing: no alarm
    settings: list[str] = field(default_factory=list)
    harm: Callable[[Session], None] = no_harm
    backbone: str = "mlp"
    steps: int = STEPS


FAILING = [
    Case("flow, lr 30", "flow_matching", digits, "exploding loss", ["train.lr=30"]),
    Case("autoencoder, lr 1", "autoencoder", digits, "exploding loss",
         ["train.lr=1", "train.optimizer=adamw"]),
    Case("flow, lr 1e-9", "flow_matching", digits, "stalled loss", ["train.lr=1e-9"]),
    Case("gan, lr 1e-9", "gan", rings, "stalled loss", ["train.lr=1e-9"]),
    Case("vae, beta 1000", "vae", digits, "posterior collapse",
         ["family.beta=1000", "family.prior=normal"]),
    Case("vq_vae, entries fallen together", "vq_vae", digits, "dead codes",
         ["family.quantiser=vq"], break_codebook, "conv"),
    Case("gan, gamma 0", "gan", rings, "critic domination",
         ["family.gamma=0", "train.lr=0.01"], fast_critic),
    Case("gan, generator 1000 times as slow", "gan", rings, "critic domination",
         ["family.gamma=0.001"], slow_generator),
    Case("gan, deaf to its noise", "gan", rings, "mode collapse", [], deaf_generator),
    Case("autoregressive, 24 items", "autoregressive", few_digits, "over-training",
         ["modality.levels=16"], backbone="transformer"),
    Case("supervised, 24 items", "supervised", few_digits, "over-training"),
    Case("flow, slow loader", "flow_matching", digits, "data starvation", [], throttle),
    Case("vae, NaN", "vae", digits, "repeated rollbacks", [], poison),
    Case("flow, labels dropped", "flow_matching", digits, "labels ignored",
         ["family.drop_prob=1"]),
    Case("vae, one picture", "vae", constant, "constant data"),
    Case("rbm, lr 3", "rbm", digits, "dead hidden units", ["train.lr=3"]),
]  # fmt: skip

HEALTHY = [
    Case("flow_matching, digits", "flow_matching", digits),
    Case("flow_matching, rings", "flow_matching", rings),
    Case("diffusion, digits", "diffusion", digits),
    Case("vae, digits", "vae", digits),
    Case("vae, rings", "vae", rings),
    Case("autoencoder, digits", "autoencoder", digits),
    Case("vq_vae, digits", "vq_vae", digits, backbone="conv"),
    Case("gan, rings", "gan", rings),
    Case("gan, digits", "gan", digits),
    Case("autoregressive, digits", "autoregressive", digits, backbone="rnn"),
    Case("rbm, digits", "rbm", digits, settings=["train.lr=0.02"]),
    Case("dbn, digits", "dbn", digits, settings=["family.num_hidden=64,64", "train.lr=0.02"]),
    Case("supervised, digits", "supervised", digits),
]


def run(case: Case, out: Path, seed: int) -> list[dict[str, Any]]:
    """Train; return the alarms as (kind, share of the budget, text)."""
    num_steps = ["family.num_steps=50"] if case.family in ("rbm", "dbn") else []
    session = prepare(
        case.data(), case.family, backbone=case.backbone, budget=f"{case.steps}steps", out=out,
        seed=seed,
        settings=["backbone.model_dim=32", "train.batch_size=32", *num_steps, *case.settings],
    )  # fmt: skip
    case.harm(session)

    def stop_early(log: Log) -> None:
        session.run.stop |= bool(case.expected) and log.step >= QUARTER * case.steps

    with contextlib.suppress(TrainingError):  # what the watch said before counts
        session.train(stop_early)
    print(f"<!-- probes: {session.probe.spent / session.run.state.seconds:.1%} of the time -->")
    return [
        {**json.loads(line)["alarm"], "share": json.loads(line)["step"] / case.steps}
        for line in (out / "log.jsonl").read_text().splitlines()
        if "alarm" in json.loads(line)
    ]


def replay(case: Case, out: Path) -> list[dict[str, Any]]:
    """The alarms that the watch raises over a log that was kept."""
    config = next(out.glob("config.json"))
    options = TrainOptions(**json.loads(config.read_text())["recipe"]["train"])
    watch = Watch.over(discover.find("family", case.family), options)
    for line in (out / "log.jsonl").read_text().splitlines():
        facts = json.loads(line)
        log = Log(facts["step"], facts["seconds"], 0.0, case.steps, numbers_of(facts))
        list(watch.see(log))
    return [{**alarm.to_json(), "share": alarm.step / case.steps} for alarm in watch.alarms]


def report(case: Case, alarms: list[dict[str, Any]]) -> bool:
    """Print a row; whether it is what was to be."""
    right = [alarm for alarm in alarms if alarm["kind"] == case.expected]
    good = bool(right) and right[0]["share"] <= QUARTER if case.expected else not alarms
    others = ", ".join(f"{a['kind']} {a['share']:.1%}" for a in alarms if a not in right)
    share = f"{right[0]['share']:.1%}" if right else "-"
    kind = case.expected or "none"
    verdict = "yes" if good else "NO"
    print(f"| {case.name} | {kind} | {share} | {others or '-'} | {verdict} |", flush=True)
    for alarm in right[:1]:
        print(f"<!-- {alarm['found']}; try {alarm['hint']} -->", flush=True)
    return good


def main() -> None:
    """Run all that was asked for, and print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--logs", type=Path)
    parser.add_argument("--replay", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.replay or arguments.logs or Path(tempfile.mkdtemp())
    for title, cases in (("failing", FAILING), ("healthy", HEALTHY)):
        chosen = [case for case in cases if arguments.only in f"{title}: {case.name}"]
        if not chosen:
            continue
        print(f"\n| {title} | alarm to come | first, share of budget | others | right |")
        print("| --- | --- | --- | --- | --- |", flush=True)
        good = num = 0
        for case in chosen:
            out = folder / f"{title} {case.name}".replace(" ", "_").replace(",", "")
            if arguments.replay and not (out / "config.json").exists():
                continue  # never run, or ended with an error
            num += 1
            found = replay(case, out) if arguments.replay else run(case, out, arguments.seed)
            good += report(case, found)
        print(f"\n{good} of {num} right", flush=True)


if __name__ == "__main__":
    main()
