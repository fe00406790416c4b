"""What cannot fit into memory is refused with numbers before it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import morphogen as mg
from morphogen.core import discover
from morphogen.core.errors import TrainingError
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import TensorSpec
from morphogen.training import memory
from morphogen.training.memory import available_memory, check_network, held_batch, kept_bytes
from morphogen.training.options import TrainOptions
from morphogen.training.run import prepare

CPU = torch.device("cpu")
GRID = TensorSpec("real", (1, 8, 8), levels=16)
TOKENS = TensorSpec.tokens(12, 6)
LABEL = {"label": TensorSpec.label(3)}


@pytest.fixture(scope="module")
def data() -> mg.Data:
    x = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    return mg.Data.from_tensors(x, [0, 1, 2] * 10)


@pytest.mark.parametrize("name", discover.names("family"))
def test_parameters_are_counted_without_being_made(name: str) -> None:
    family = discover.find("family", name)
    spec = TOKENS if family.refuses(GRID, LABEL) else GRID
    recipe = Recipe(family={"name": name})
    torch.manual_seed(0)
    counted = check_network(recipe, spec, LABEL, TrainOptions(), CPU)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), drawn), "counting draws nothing"
    built = build_family(recipe, spec, LABEL)
    assert counted == sum(p.numel() * p.element_size() for p in built.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.batch_size=99999999999"], "a batch is too large"),
        (["backbone.model_dim=1000000"], "the network is too large"),
        (["backbone.model_dim=1000000000000"], "the network is too large"),
        (["backbone.num_layers=1000000000", "backbone.model_dim=4096"], "the network is too large"),
    ],
)
def test_absurd_requests_are_refused_with_numbers(
    settings: list[str], message: str, data: mg.Data, tmp_path: Path
) -> None:
    before = psutil.Process().memory_info().rss
    with pytest.raises(TrainingError, match=message) as raised:
        mg.train(data, "flow_matching", backbone="mlp", settings=settings, out=tmp_path / "run")
    assert str(raised.value.expected).startswith("at most ")
    assert any(unit in str(raised.value.found) for unit in (" GB", " TB", " PB", "a layer"))
    assert psutil.Process().memory_info().rss - before < 2e8
    assert not (tmp_path / "run").exists()


def test_the_stages_of_a_chain_are_looked_at_too(data: mg.Data, tmp_path: Path) -> None:
    settings = ["backbone.model_dim=1000000", "backbone.name=mlp"]
    with pytest.raises(TrainingError, match="the network is too large"):
        mg.train(data, "vae+flow_matching", settings=settings, out=tmp_path / "run")


def test_what_the_loss_keeps_of_a_batch_counts(
    data: mg.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = ["backbone.model_dim=32", "train.batch_size=30000"]
    session = prepare(data, "flow_matching", backbone="mlp", settings=tiny, dry=True)
    two, three, four = (kept_bytes(session.run, "all", num) for num in (2, 3, 4))
    assert 0 < three - two == four - three
    before = [p.clone() for p in session.run.family.parameters()]
    free = 30_000 * (three - two) - 1
    monkeypatch.setattr(memory, "available_memory", lambda device: free)
    with pytest.raises(TrainingError, match="a batch is too large") as raised:
        session.forecast()
    assert raised.value.hint == "--set train.batch_size=1024"
    for parameter, was in zip(session.run.family.parameters(), before, strict=True):
        assert torch.equal(parameter, was)
    monkeypatch.setattr(memory, "available_memory", lambda device: 2 * free)
    memory.check_batch(session.run)


def test_a_container_has_what_its_limit_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "none")
    free = available_memory(CPU)
    assert free > 10**7
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 1000000\n")
    assert available_memory(CPU) == 3_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(CPU) > 10**7


@pytest.mark.parametrize(
    ("shape", "batch"), [((1, 8, 8), 128), ((3, 104, 100), 128), ((3, 256, 256), 16)]
)
def test_large_items_come_in_small_batches(shape: tuple[int, ...], batch: int) -> None:
    assert held_batch(128, TensorSpec("real", shape)) == batch
    assert held_batch(4, TensorSpec("real", shape)) == 4


@pytest.mark.parametrize(("settings", "batch"), [([], 8), (["train.batch_size=20"], 20)])
def test_a_batch_that_is_asked_for_is_kept(settings: list[str], batch: int, tmp_path: Path) -> None:
    x = np.zeros((24, 360, 360, 3), np.uint8)
    x[:, ::7] = np.arange(24)[:, None, None, None]
    small = ["backbone.name=conv", "backbone.model_dim=4", "modality.size=360"]
    session = prepare(x, "gan", out=tmp_path, settings=[*small, *settings])
    assert session.run.options.batch_size == batch
    assert session.recipe.train["batch_size"] == batch
