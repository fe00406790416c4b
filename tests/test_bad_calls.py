"""Bad calls of the Python API: each ends in what was found and what to type next."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as Pillow

import morphogen as mg
from morphogen.core.bundle import Bundle
from morphogen.core.errors import MorphogenError
from morphogen.training import session
from morphogen.training.loop import Log
from morphogen.training.run import sessions

X = np.random.default_rng(0).integers(0, 256, (24, 6, 6), dtype=np.uint8)
TABLE = pd.DataFrame({"a": np.arange(24) % 5, "b": np.random.default_rng(0).normal(size=24)})
SMALL = ["train.batch_size=8", "backbone.model_dim=8", "backbone.name=mlp"]


@dataclass(frozen=True)
class Made:
    """A bundle that knows labels, and a folder to write to."""

    bundle: Bundle
    folder: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    data = mg.load(X, labels=np.arange(24) % 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "draw_curves", lambda log, picture: None)
        bundle = mg.train(data, "vae", budget="1steps", settings=SMALL, out=folder / "bundle")
    (folder / "file").write_text("x")
    return Made(bundle, folder)


CALLS: dict[str, tuple[Callable[[Made], Any], str]] = {
    "no path to open": (lambda m: mg.open(3), "no path.*int: 3"),  # type: ignore[arg-type]
    "a bundle to open": (lambda m: mg.open(m.bundle), "no path.*where it lies"),  # type: ignore[arg-type]
    "no device": (lambda m: mg.open(m.folder / "bundle", device="gpu"), "device 'gpu' cannot"),
    "a bundle over a file": (lambda m: m.bundle.save(m.folder / "file"), "folder.*file-bundle"),
    "no out": (lambda m: mg.train(X, "vae", out=4), "no path.*int: 4"),  # type: ignore[arg-type]
    "a recipe in a dict": (
        lambda m: mg.train(X, recipe={"train": {}}),  # type: ignore[arg-type]
        "recipe is a file.*dict of train.*from_json",
    ),
    "settings in a text": (lambda m: mg.train(X, settings="train.lr=1"), "list of texts.*str"),
    "settings in a dict": (lambda m: mg.train(X, settings={"a": 1}), "list of texts.*dict"),
    "settings of numbers": (lambda m: mg.train(X, settings=[3]), "list of texts.*list"),  # type: ignore[list-item]
    "no function": (lambda m: mg.train(X, on_log=4), "given to a function.*on_log=4"),  # type: ignore[arg-type]
    "a start in memory": (lambda m: mg.train(X, start=m.bundle), "no path.*where it lies"),  # type: ignore[arg-type]
    "no codec": (lambda m: mg.load(X, codec="image"), "codec is that of.*bundle.codec"),  # type: ignore[arg-type]
    "one label": (lambda m: mg.load(X, labels=6), "not as many labels.*1 labels.*24"),
    "a text for a path": (lambda m: mg.load("a" * 5000), "no path.*in a list"),
    "numbers nowhere": (lambda m: mg.load(torch.zeros(9, 6, 6, device="meta")), "no numbers.*meta"),
    "numbers left out": (lambda m: mg.load(torch.ones(9, 6, 6).to_sparse()), "to_dense"),
    "a series of pandas": (lambda m: mg.load(TABLE["b"]), "memory.*Series.*to_frame"),
    "no bundle": (lambda m: mg.evaluate(3, X), "no path.*int: 3"),  # type: ignore[arg-type]
    "data of another kind": (lambda m: mg.evaluate(m.bundle, TABLE), "another kind.*table.*image"),  # type: ignore[arg-type]
    "no number": (lambda m: mg.evaluate(m.bundle, X, num="many"), "evaluate.num.*'many'"),  # type: ignore[arg-type]
    "no seed": (lambda m: mg.evaluate(m.bundle, X, seed=None), "evaluate.seed.*None"),  # type: ignore[arg-type]
    "no groups": (lambda m: mg.evaluate(m.bundle, X, groups=3), "evaluate.groups.*3"),  # type: ignore[arg-type]
    "no judge": (lambda m: mg.evaluate(m.bundle, X, judge=3), "no path.*int: 3"),  # type: ignore[arg-type]
    "no device to judge on": (lambda m: mg.evaluate(m.bundle, X, device="gpu"), "'gpu' cannot"),
    "a seed in words": (lambda m: m.bundle.sample(2, seed="a"), "no seed.*'a'.*seed=0"),  # type: ignore[arg-type]
    "a seed too far": (lambda m: m.bundle.sample(2, seed=2**70), "no seed.*1180591620717411303424"),
    "unnamed": (lambda m: m.bundle.sample(2, cond="a"), "by name.*'a'.*cond={'label': ...}"),  # type: ignore[arg-type]
    "no values": (lambda m: m.bundle.sample(2, cond={"label": []}), "not as many.*0 values for 2"),
    "half a class": (
        lambda m: m.bundle.sample(2, cond={"label": torch.tensor([0.5, 1.0])}),
        "by their number.*float32.*long",
    ),
    "parts of no number": (lambda m: [*m.bundle.sample_parts("a")], "generate.num.*'a'"),  # type: ignore[arg-type]
    "no file": (lambda m: m.bundle.sample(2).save(3), "no path.*int: 3"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", CALLS)
def test_what_cannot_be_done_is_told(name: str, made: Made, monkeypatch: Any) -> None:
    monkeypatch.chdir(made.folder)
    call, told = CALLS[name]
    with pytest.raises(MorphogenError, match=f"(?s){told}"):
        call(made)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on an array that was stopped after its first step."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "draw_curves", lambda log, picture: None)
        stages = sessions(X, "vae", budget="3steps", settings=SMALL, out=out)
        with closing(stages):
            held = next(stages)

            def stop(log: Log) -> None:
                held.run.stop = log.step >= 1

            held.train(stop)
    return out


def test_a_run_on_what_lies_in_memory_goes_on(stopped: Path, tmp_path: Path) -> None:
    """Where it is given again: as it was, or as a tensor; anything else is told apart from it."""
    with pytest.raises(MorphogenError, match=r"(?s)data in memory.*give it again"):
        mg.train(None, out=stopped, resume=True)
    with pytest.raises(MorphogenError, match=r"(?s)not what the run was started with.*10 items"):
        mg.train(X[:12], out=stopped, resume=True)
    with pytest.raises(MorphogenError, match="column"):
        mg.train(TABLE, out=stopped, resume=True)  # type: ignore[arg-type]
    whole = mg.train(X, "vae", budget="3steps", settings=SMALL, out=tmp_path / "whole")
    again = mg.train(torch.from_numpy(X), out=stopped, resume=True)  # type: ignore[arg-type]
    for name, tensor in whole.family.state_dict().items():
        assert torch.equal(again.family.state_dict()[name], tensor), name


def test_the_folder_that_one_stands_in_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    for number, each in enumerate(X[:4]):
        stream = io.BytesIO()
        Pillow.fromarray(each).save(stream, "PNG")
        (tmp_path / f"{number}.png").write_bytes(stream.getvalue())
    monkeypatch.chdir(tmp_path)
    data = mg.load(".")
    assert len(data.train) + len(data.test) == 4


def test_a_tensor_that_numpy_has_not_is_read() -> None:
    x = torch.from_numpy(X).float() / 255
    half = mg.load(x.bfloat16())
    assert half.digest == mg.load(x.bfloat16().float()).digest


@pytest.mark.parametrize("who", ["", "ann:secret@"])
def test_an_address_is_told_once_and_without_who_may_read_it(who: str) -> None:
    pytest.importorskip("sqlalchemy", reason="needs morphogen[sql]")
    with pytest.raises(MorphogenError, match=r"(?m)where: +nosuch://host/base$"):
        mg.load(f"nosuch://{who}host/base")
