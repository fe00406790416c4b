"""Exposure: uniform for a model that remembers nothing, growing with repeats for one that does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import morphogen as mg
from morphogen.cli.app import main
from morphogen.core.codec import Report
from morphogen.core.errors import DataError, MeasurementError, RecipeError, RefusedPair
from morphogen.core.gaussian_path import GaussianPath
from morphogen.core.random import generator, rand, randint, randn
from morphogen.core.spec import TensorSpec
from morphogen.data import canaries as canaries_module
from morphogen.data import progress
from morphogen.data.canaries import Canaries, block_numbers, patchworks, plant
from morphogen.data.dataset import Data, load
from morphogen.data.store import MemoryStore, compact
from morphogen.evaluation.evaluate import evaluate
from morphogen.evaluation.exposure import FORGETFUL, exposure, exposures, p_value
from morphogen.testing.oracles import GaussianOracle

SPECS = {
    "grid": TensorSpec("real", (1, 8, 8), levels=256),
    "sequence": TensorSpec("real", (2, 16), layout="sequence"),
    "vector": TensorSpec.vector(6),
    "tokens": TensorSpec.tokens(16, 5),
}


def make_data(name: str, num: int = 200, seed: int = 0) -> Data:
    """Independent items with labels of two classes."""
    spec, draw = SPECS[name], generator(seed)
    if spec.kind == "token":
        x = randint(spec.vocab_size or 1, (num, *spec.shape), draw)
    else:
        x = (0.3 * randn((num, *spec.shape), draw)).clamp(-1, 1)
    cond = {"label": randint(2, (num,), draw)}
    split = MemoryStore(spec, compact(x, spec), cond, [str(i) for i in range(num)])
    codec: Any = SimpleNamespace(spec=spec, conditions={"label": TensorSpec.label(2)})
    return Data(codec, split, split.take(torch.arange(20)), Report("drawn"), digest="before")


def planted_in(*arguments: Any, **options: Any) -> tuple[Data, Canaries]:
    """`plant`, and what was planted."""
    planted = plant(*arguments, **options)
    assert planted.canaries is not None
    return planted, planted.canaries


class Kernels(nn.Module):
    """A kernel density estimate of what it was shown: it remembers everything, and says so."""

    log_prob_is = "exact"

    def __init__(self, train: MemoryStore, width: float = 0.1) -> None:
        super().__init__()
        self.spec, self.conditions, self.width = train.spec, dict[str, TensorSpec](), width
        self.device = torch.device("cpu")
        self.centres = train.batch(torch.arange(len(train))).x.flatten(1).float()
        self.path = GaussianPath("straight")

    def log_prob(self, x: Tensor, *, cond: Any = None, generator: torch.Generator) -> Tensor:
        gaps = torch.cdist(x.flatten(1).float(), self.centres).square()
        kernels = torch.logsumexp(-gaps / (2 * self.width**2), 1) - math.log(len(self.centres))
        return kernels - x[0].numel() * math.log(self.width * math.sqrt(2 * math.pi))


class Denoiser(nn.Module):
    """The best denoiser of exactly the items that it was shown: a posterior mean over them."""

    def __init__(self, train: MemoryStore) -> None:
        super().__init__()
        self.spec, self.conditions = train.spec, dict[str, TensorSpec]()
        self.device, self.path = torch.device("cpu"), GaussianPath("straight")
        self.x = train.batch(torch.arange(len(train))).x

    def denoise(self, x_t: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        alpha, sigma = self.path.alpha(t)[:, None], self.path.sigma(t)[:, None]
        gaps = (x_t.flatten(1)[:, None] - alpha[..., None] * self.x.flatten(1)).square().sum(2)
        weights = torch.softmax(-gaps / (2 * sigma**2).clamp(min=1e-6), 1)
        return (weights @ self.x.flatten(1)).view(x_t.shape)


@pytest.mark.parametrize("name", SPECS)
def test_canaries_are_planted_as_often_as_asked(name: str) -> None:
    data = make_data(name)
    planted, canaries = planted_in(data, (1, 3), num=4, num_references=50)
    assert len(planted.train) == len(data.train) + 4 * (1 + 3)
    assert len(planted.train.names) == len(planted.train)
    assert len(planted.train.cond["label"]) == len(planted.train)
    assert planted.test is data.test
    assert planted.digest not in ("", data.digest)
    assert canaries.repeats.tolist() == [1] * 4 + [3] * 4
    for item, repeats in zip(canaries.planted.x, canaries.repeats.tolist(), strict=True):
        same = (planted.train.x == item).flatten(1).all(1)
        assert int(same.sum()) == repeats
    unseen = (canaries.references.x[:, None] == planted.train.x[None]).flatten(2).all(2)
    assert not unseen.any()
    again = plant(data, (1, 3), num=4, num_references=50)
    assert again.digest == planted.digest
    other = plant(data, (1, 3), num=4, num_references=50, seed=1)
    assert other.digest != planted.digest
    assert json.loads(json.dumps(canaries.to_json())) == canaries.to_json()
    assert canaries.to_json()["canaries_by_repeats"] == {"1": 4, "3": 4}


def test_how_far_they_are_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data, heard = make_data("grid"), list[progress.Progress]()
    monkeypatch.setattr(canaries_module, "MOST_VALUES", 16 * 64 * 30)  # thirty at once
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with progress.listening(heard.append):
        plant(data, (1,), num=10, num_references=90)
    assert [each.done for each in heard if each.doing == "making"][:3] == [30, 60, 90]
    assert {each.total for each in heard if each.what == "canaries"} == {100}


@pytest.mark.parametrize("name", SPECS)
def test_every_block_of_a_canary_is_that_of_a_training_item(name: str) -> None:
    split = make_data(name, 40).train
    drawn, block = patchworks(split, 6, generator(0)), block_numbers(split.spec)
    assert block.shape == split.spec.shape
    assert int(block.max()) + 1 == {"grid": 16, "sequence": 16, "vector": 6, "tokens": 16}[name]
    for item in drawn.x:
        for number in range(int(block.max()) + 1):
            inside = (block == number).flatten()
            found = (split.x.flatten(1)[:, inside] == item.flatten()[inside]).all(1)
            assert found.any()
    assert set(drawn.cond["label"].tolist()) <= {0, 1}


def test_blocks_are_contiguous_and_shared_by_the_channels() -> None:
    block = block_numbers(TensorSpec("real", (2, 6, 4)))
    assert torch.equal(block[0], block[1])
    assert block[0, 0].tolist() == [0, 1, 2, 3]
    assert block[0, :, 0].tolist() == [0, 0, 4, 8, 8, 12]
    assert int(block_numbers(TensorSpec("real", (1, 4, 8, 8))).max()) == 7


@pytest.mark.parametrize("name", SPECS)
def test_a_model_that_remembers_exposes_what_it_saw(name: str) -> None:
    planted, canaries = planted_in(make_data(name), num=6, num_references=256)
    found = exposure(Kernels(planted.train), canaries)
    assert list(found) == [1, 4, 16, 64]
    for measured in found.values():
        assert measured.low is not None
        assert measured.low > FORGETFUL
    assert found[1].value <= found[4].value <= found[16].value <= found[64].value
    assert found[64].value == 8  # log2 256: likelier than every reference
    assert found[64].n == 6
    assert "which has 1.44 bits on the average" in found[64].note
    assert found[64].protocol["num_references"] == 256
    assert found[64].caution == "an item that is 64 times in the data is remembered"


def test_more_repeats_expose_more_to_a_model_that_remembers_little() -> None:
    planted, canaries = planted_in(make_data("vector", 400), num=12, num_references=512)
    found = exposure(Kernels(planted.train, width=0.2), canaries)
    assert found[1].value < found[4].value < found[16].value < found[64].value == 9
    assert found[1].value < FORGETFUL + 1


def test_the_denoising_error_exposes_as_well() -> None:
    planted, canaries = planted_in(make_data("vector", 100), (1, 64), num=6, num_references=128)
    found = exposure(Denoiser(planted.train), canaries)
    assert found[64].value > 5
    assert found[64].value > FORGETFUL


def test_a_model_that_was_not_shown_them_exposes_nothing() -> None:
    """The Gaussian of the data's law: ranks are uniform, whatever the repeats."""
    data = make_data("vector")
    _, canaries = planted_in(data, (1, 64), num=100, num_references=512)
    spec = SPECS["vector"]
    model = GaussianOracle(torch.zeros(6), 0.09 * torch.eye(6), spec)
    for measured in exposure(model, canaries).values():
        assert measured.low is not None
        assert measured.high is not None
        assert measured.low - 0.2 < FORGETFUL < measured.high + 0.2
        assert float(measured.note.split("p = ")[1].split()[0]) > 0.01
        assert not measured.caution


def test_exposure_is_log2_of_references_over_rank() -> None:
    references = torch.arange(1.0, 9.0)
    bits = exposures(torch.tensor([0.0, 1.5, 8.5, 3.0]), references)
    expected = [3.0, 3 - 1, 3 - math.log2(9), 3 - math.log2(3.5)]
    assert bits.tolist() == pytest.approx(expected)


def test_uniform_ranks_have_uniform_or_larger_p_values() -> None:
    draw, num = generator(0), 400
    p = torch.tensor([
        p_value(exposures(rand((8,), draw), rand((2000,), draw)), 2000) for _ in range(num)
    ])  # fmt: skip
    assert float((p <= 0.1).double().mean()) == pytest.approx(0.1, abs=0.05)
    assert float((p <= 0.5).double().mean()) == pytest.approx(0.5, abs=0.08)
    assert p_value(torch.full((8,), 11.0), 2000) < 1e-10


def test_bad_input_is_refused() -> None:
    data = make_data("vector")
    with pytest.raises(DataError, match="planted"):
        plant(data, ())
    with pytest.raises(DataError, match="planted"):
        plant(data, num=-3)
    with pytest.raises(RecipeError, match=r"modality\.canaries has a value that does not fit"):
        load(np.zeros((9, 4, 4), np.uint8), canaries="few")
    with pytest.raises(DataError, match="planted"):
        plant(Data(data.codec, data.train.take(torch.arange(1)), data.test, data.report))
    with pytest.raises(DataError, match="more canaries than training items") as raised:
        plant(data, num=len(data.train) // 4 + 1)
    assert raised.value.expected == "at most 50, for 200 training items"
    assert str(raised.value.hint).startswith("--canaries 8")
    with pytest.raises(DataError, match="more canaries than training items"):
        load(rand((40, 8, 8), generator(0)).numpy(), canaries=10**6)
    planted, canaries = planted_in(data, (1,), num=2, num_references=8)
    broken = Kernels(planted.train)
    broken.centres = broken.centres * torch.nan
    with pytest.raises(MeasurementError, match="not finite"):
        exposure(broken, canaries)
    nothing = nn.Module()
    nothing.spec, nothing.conditions = SPECS["vector"], {}  # type: ignore[assignment]
    nothing.device = torch.device("cpu")  # type: ignore[assignment]
    with pytest.raises(RefusedPair):
        exposure(nothing, canaries)


def test_canaries_planted_for_a_training_are_found_again_by_its_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a user does it: an autoencoder that is trained long on little remembers its data."""
    pictures = np.random.default_rng(0).integers(0, 256, (120, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", pictures)
    source, out = tmp_path / "noise.npz", tmp_path / "model"
    arguments = [str(source), "--family", "autoencoder", "--budget", "400steps", "--out", str(out)]
    tiny = ["--set", "backbone.name=mlp", "--set", "backbone.model_dim=64"]
    tiny += ["--set", "train.num_previews=0"]
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments, "--canaries", "2", *tiny])
    assert ended.value.code == 0
    assert "8 canaries are planted in it, 170 times in all" in capsys.readouterr().out
    about = json.loads((out / "config.json").read_text())["data"]
    assert about["options"]["canaries"] == 2
    plain = load(source)
    assert about["num_train"] == len(plain.train) + 2 * (1 + 4 + 16 + 64)
    assert about["num_test"] == len(plain.test)

    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(out), "--json"])
    assert ended.value.code == 0
    record = json.loads(capsys.readouterr().out)
    exposed = {r: record["scores"][f"exposure_{r}"]["value"] for r in (1, 4, 16, 64)}
    assert exposed[64] > exposed[1]
    assert exposed[64] > 5
    assert "exposure_64: an item that is 64 times in the data is remembered" in record["warnings"]
    assert record["protocol"]["canaries"]["canaries_by_repeats"]["64"] == 2
    assert record["protocol"]["data_digest"] == about["digest"]
    # Without canaries the data is another, and nothing is said of what is remembered.
    assert not any(name.startswith("exposure") for name in evaluate(out, plain)["scores"])


def test_latents_of_data_with_canaries_are_those_of_the_canaries_too(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (60, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", pictures)
    tiny = ("backbone.name=mlp", "train.num_previews=0", "modality.canaries=1")
    chained = mg.train(
        tmp_path / "noise.npz", "vae+flow_matching", budget="4steps", out=tmp_path / "model",
        settings=tiny,
    )  # fmt: skip
    assert chained.data["options"]["canaries"] == 1
    again = load(tmp_path / "noise.npz", codec=chained.codec, **chained.data["options"])
    assert len(again.train) == chained.data["num_train"] == 60 - len(again.test) + 85
    assert again.canaries is None
    record = evaluate(chained)
    assert any("exposure was not measured" in warning for warning in record["warnings"])
