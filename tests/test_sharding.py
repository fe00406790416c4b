"""Processes that share out the weights: the steps of one, and checkpoints that any number reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import morphogen as mg
from forks import run_in_two
from morphogen.core.errors import BundleError, TrainingError
from morphogen.core.family import Family
from morphogen.training.checkpoint import read_checkpoint
from morphogen.training.loop import train_steps
from morphogen.training.run import prepare
from morphogen.training.session import Session
from morphogen.training.sharding import part, shard

torch.set_num_threads(1)

SETTINGS = [
    "backbone.model_dim=16", "backbone.num_layers=2", "modality.length=24", "train.batch_size=4",
    "train.num_previews=0", "train.shard=yes", "train.recompute=yes", "modality.form=windows",
    "train.device=cpu",
]  # fmt: skip
STEPS, STOPPED_AT = 6, 3
PROBED = {"seen_loss", "loss_spread", "held_out_loss"}  # where there is time for it


def work(corpus: Path, place: Path) -> None:
    """What each of two processes does: a whole run, and one that is stopped and gone on with."""

    def begun(out: Path) -> Session:
        budget = f"{STEPS}steps"
        return prepare(corpus, "autoregressive", out=out, budget=budget, settings=SETTINGS)

    def ended(held: Session) -> tuple[list[Any], dict[str, torch.Tensor]]:
        logs = [(log.step, log.values | held.probe.measure(log)) for log in train_steps(held.run)]
        held.run.finish()
        return logs, {name: part(each) for name, each in held.run.family.state_dict().items()}

    held = begun(place / "unbroken")
    matrices = [each for each in held.run.family.parameters() if each.dim() > 1]
    assert {part(each).numel() / each.numel() for each in matrices} == {0.5}
    logs, unbroken = ended(held)
    if held.first:
        (place / "logs.json").write_text(json.dumps(logs))

    held = begun(place / "stopped")

    def stop_half_way(log: Any) -> None:  # only the first process is told
        held.run.stop = log.step >= STOPPED_AT

    held.train(stop_half_way)
    _, resumed = ended(prepare(None, out=place / "stopped", resume=True))
    for name, each in unbroken.items():
        assert torch.equal(each, resumed[name]), name


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("runs") / "corpus.txt"
    file.write_text("the harbour lay still, and the boats in it.\n" * 40)
    return file


@pytest.fixture(scope="module")
def one(corpus: Path) -> tuple[list[Any], dict[str, torch.Tensor]]:
    """The log and the weights of the run in one process."""
    held = prepare(
        corpus, "autoregressive", out=corpus.parent / "one", budget=f"{STEPS}steps",
        settings=SETTINGS,
    )  # fmt: skip
    logs = [[log.step, log.values | held.probe.measure(log)] for log in train_steps(held.run)]
    held.run.finish()
    return logs, held.run.family.state_dict()


@pytest.fixture(scope="module")
def folder(corpus: Path, one: Any) -> Path:
    """What two processes have left behind: the log of a whole run, and one that was stopped."""
    import torch.distributed.fsdp  # noqa: F401  - as all that the run of one took, once for both

    run_in_two(work, corpus, corpus.parent)
    return corpus.parent


def test_two_processes_give_the_log_of_one(folder: Path, one: Any) -> None:
    expected, found = one[0], json.loads((folder / "logs.json").read_text())
    assert [step for step, _ in found] == [step for step, _ in expected]
    assert sum("loss" in each for _, each in found) == STEPS
    assert any("seen_loss" in each for _, each in found)
    for (step, values), (_, others) in zip(found, expected, strict=True):
        assert values.keys() - PROBED == others.keys() - PROBED
        for name in {"loss", "grad_norm", "seen_loss"} & values.keys() & others.keys():
            assert values[name] == pytest.approx(others[name], rel=1e-3), (step, name)


def test_one_process_goes_on_from_the_checkpoint_of_two(folder: Path, one: Any) -> None:
    held = prepare(None, out=folder / "stopped", resume=True)
    assert held.run.state.step == STOPPED_AT
    list(train_steps(held.run))
    held.run.finish()
    for name, tensor in held.run.family.state_dict().items():
        torch.testing.assert_close(tensor, one[1][name], rtol=1e-2, atol=1e-4)


def test_the_bundle_is_an_ordinary_one(folder: Path) -> None:
    bundle = mg.open(folder / "stopped")
    assert len(bundle.sample(2, seed=0).items) == 2
    assert bundle.run["steps"] == STOPPED_AT


def test_a_part_that_was_changed_is_refused(folder: Path) -> None:
    parts = sorted((folder / "stopped" / "checkpoint").rglob("*.safetensors"))
    assert len(parts) == 2
    whole = parts[1].read_bytes()
    parts[1].write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BundleError, match="changed after it was written"):
        read_checkpoint(folder / "stopped")
    parts[1].write_bytes(whole)


def test_steps_of_another_kind_are_refused() -> None:
    class Own(Family):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def step(self, *_: Any) -> dict[str, torch.Tensor]:
            return {}

    with pytest.raises(TrainingError, match="its steps are its own"):
        shard(Own(), torch.device("cpu"))
