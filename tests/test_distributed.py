"""Two processes under torchrun: the steps and the log of one, decisions taken by all together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import morphogen as mg
from morphogen.core.folder import MODEL
from morphogen.core.storage import read_tensors
from morphogen.training.loop import train_steps
from morphogen.training.run import prepare

torch.set_num_threads(1)

SETTINGS = [
    "backbone.name=mlp", "backbone.model_dim=16", "train.batch_size=16", "train.num_previews=0",
]  # fmt: skip
STEPS, STOPPED_AT = 12, 7
WORKER = f"""
import json, os, signal, sys
from pathlib import Path
import torch, morphogen as mg
from morphogen.training import forecast
from morphogen.training.run import prepare
from morphogen.training.schedule import Schedule

torch.set_num_threads(1)
digits, folder, settings = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
rank = int(os.environ["RANK"])

class Interrupted(Schedule):
    def is_over(self, state):  # asked when the steps' numbers have been exchanged
        if rank == 1 and state.step == {STOPPED_AT}:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().is_over(state)

out, budget = folder / "two", "{STEPS}steps"
held = prepare(digits, "flow_matching", out=out, budget=budget, settings=settings)
held.run.schedule = Interrupted(held.run.options, len(held.run.split))
steps, step = [], held.run.step
held.run.step = lambda: steps.append(held.run.state.step) or step()
forecast.TRIAL_SECONDS = (60.0, 0.0)[rank]  # as if the second one's clock were far ahead
held.train(lambda log: None)
stopped_at = held.run.state.step
mg.train(None, out=out, resume=True)

def taught(name, stop_at=None):  # few steps, whose objective has a state of its own
    given = dict(start=out, objective="few_steps", budget="4steps", settings=settings[2:])
    held = prepare(digits, out=folder / name, **given)
    held.train(lambda log: setattr(held.run, "stop", log.step == stop_at))

forecast.TRIAL_SECONDS = 0.0
taught("few_whole")
taught("few_cut", stop_at=2)
mg.train(None, out=folder / "few_cut", resume=True)
facts = dict(stopped_at=stopped_at, tried=len(steps) - stopped_at)
(folder / f"{{rank}}.json").write_text(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have left behind: a run, and what each has noted."""
    from sklearn.datasets import load_digits

    place = tmp_path_factory.mktemp("runs")
    images, labels = load_digits(return_X_y=True)
    digits = place / "digits.npz"
    np.savez(digits, images=images.reshape(-1, 8, 8)[:300].astype(np.uint8), labels=labels[:300])
    run_in_two(digits, place)
    return place


def run_in_two(digits: Path, place: Path) -> None:
    """The worker, by `torchrun` in two processes."""
    worker = place / "worker.py"
    worker.write_text(WORKER)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", str(worker), str(digits), str(place), *SETTINGS],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def one(folder: Path) -> tuple[dict[int, float], dict[str, torch.Tensor]]:
    """The losses and the weights of the same run in one process."""
    held = prepare(
        folder / "digits.npz", "flow_matching", out=folder / "one", budget=f"{STEPS}steps",
        settings=SETTINGS,
    )  # fmt: skip
    losses = {log.step: log.values["loss"] for log in train_steps(held.run) if log.values}
    held.run.finish()
    return losses, held.run.family.state_dict()


def seen(folder: Path, name: str) -> list[int]:
    """What each process has noted of itself."""
    return [json.loads((folder / f"{rank}.json").read_text())[name] for rank in (0, 1)]


def test_stopped_and_resumed_they_have_taken_the_steps_of_one(folder: Path, one: Any) -> None:
    two = read_tensors(folder / "two" / MODEL)
    for name, tensor in one[1].items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-5)


def test_the_log_tells_the_mean_over_all(folder: Path, one: Any) -> None:
    lines = map(json.loads, (folder / "two" / "log.jsonl").read_text().splitlines())
    two = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert sorted(one[0]) == sorted(two) == list(range(1, STEPS + 1))
    for step, loss in one[0].items():
        assert two[step] == pytest.approx(loss, rel=1e-3), step


def test_a_stop_that_reaches_one_between_two_steps_stops_all(folder: Path) -> None:
    assert seen(folder, "stopped_at") == [STOPPED_AT] * 2


def test_they_try_as_many_steps_for_the_forecast(folder: Path) -> None:
    assert seen(folder, "tried") == [8, 8]


def test_what_an_objective_keeps_is_kept_of_all(folder: Path) -> None:
    """A run that was stopped ends as one that was not, to the bit, and both as one process does."""
    whole, cut = (read_tensors(folder / name / MODEL) for name in ("few_whole", "few_cut"))
    for name, tensor in whole.items():
        assert torch.equal(cut[name], tensor), name
    one = mg.train(
        folder / "digits.npz", start=folder / "two", objective="few_steps", budget="4steps",
        settings=SETTINGS[2:], out=folder / "few_one",
    )  # fmt: skip
    for name, tensor in one.family.state_dict().items():
        torch.testing.assert_close(whole[name], tensor, rtol=1e-3, atol=1e-5)
