"""The evaluation on tiny data: a perfect generator reaches the floor, a broken one does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor, nn

from morphogen.core.batch import Batch
from morphogen.core.bundle import Bundle
from morphogen.core.errors import DataError, MeasurementError
from morphogen.core.random import generator, randint, randn
from morphogen.core.recipe import Recipe
from morphogen.core.storage import read_tensors, write_tensors
from morphogen.data.dataset import Data, load
from morphogen.evaluation.evaluate import evaluate, read_scores
from morphogen.evaluation.features import feature_extractor, hash_tensors
from morphogen.training.run import train


def pictures(num: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two classes of 8 x 8 pictures: a bright bar that lies, or stands, at a random place."""
    draw = generator(seed)
    labels, place = randint(2, (num,), draw), randint(8, (num,), draw)
    x = torch.full((num, 8, 8), 40.0)
    rows = torch.arange(num)
    x[rows[labels == 0], place[labels == 0], :] = 220
    x[rows[labels == 1], :, place[labels == 1]] = 220
    x = x + 8 * randn(x.shape, draw)
    return x.clamp(0, 255).to(torch.uint8), labels


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _use_shared_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test on the same data finds the extractor that the first of them trained."""
    monkeypatch.setenv("MORPHOGEN_CACHE", str(shared_cache))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own."""
    monkeypatch.setenv("MORPHOGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_data(num: int = 400, labelled: bool = True) -> Data:
    x, labels = pictures(num, 0)
    held, held_labels = pictures(num // 2, 1)
    if not labelled:
        return Data.from_tensors(x, test=held)
    return Data.from_tensors(x, labels, test=held, test_labels=held_labels)


class Generator(nn.Module):
    """Draws from the law of the data, or a shifted one."""

    def __init__(self, data: Data, gain: float) -> None:
        super().__init__()
        self.spec, self.conditions, self.gain = data.spec, data.conditions, gain
        self.unused = nn.Parameter(torch.zeros(1))
        self.device = torch.device("cpu")

    def sample(
        self, num: int, *, cond: Mapping[str, Tensor] | None = None, generator: torch.Generator
    ) -> Tensor:
        seed = int(torch.randint(2**31, (), generator=generator))
        x = pictures(num, seed)[0].unsqueeze(1)
        return (self.spec.dequantise(x) * self.gain).clamp(-1, 1)


def make_bundle(data: Data, gain: float = 1.0, path: Path | None = None) -> Bundle:
    model: Any = Generator(data, gain)
    about = {"digest": data.digest}
    return Bundle(model, data.codec, Recipe(), data=about, priors=data.priors, path=path)


def test_the_law_of_the_data_reaches_the_floor_and_another_does_not() -> None:
    data = make_data()
    good = read_scores(evaluate(make_bundle(data), data))
    bad = read_scores(evaluate(make_bundle(data, gain=0.4), data))
    ratio, other = good["frechet_ratio"], bad["frechet_ratio"]
    assert 0.3 < ratio.value < 3
    assert other.value > 3 * ratio.value
    assert bad["frechet"].floor == good["frechet"].floor
    assert ratio.low is not None
    assert ratio.high is not None
    assert other.low is not None
    assert ratio.low < 1 < ratio.high
    assert other.low > 1
    assert ratio.better_than(other) is True
    by_classifier, by_whole = (good[f"frechet_ratio_by_{j}"] for j in ("classifier", "whole_item"))
    assert good["frechet"].ratio == pytest.approx(by_classifier.value)
    assert ratio.value == max(by_classifier.value, by_whole.value)


def test_an_evaluation_is_written_with_its_protocol_and_repeats_itself(tmp_path: Path) -> None:
    data = make_data()
    folder = tmp_path / "bundle"
    folder.mkdir()
    record = evaluate(make_bundle(data, path=folder), data, num=150, seed=3)
    written = json.loads((folder / "metrics.json").read_text())["evaluation"]
    assert written == record
    protocol = record["protocol"]
    assert protocol["num_generated"] == protocol["num_floor"] == 150
    assert protocol["num_reference"] == 200
    assert protocol["data_digest"] == data.digest
    assert protocol["features_sha256"] == record["features"]["weights_sha256"]
    assert "frechet: n is small: 150 items" in record["warnings"][0]
    page = (folder / "evaluation.html").read_text()
    # Samples, real items, suspicious pairs, groups.
    assert page.count("data:image/png;base64,") == 4
    assert record["copying"]["verdict"] == "no sign of copying"
    assert "Copying: no sign of copying" in page
    assert "http" not in page.replace("http-equiv", "")
    again = evaluate(make_bundle(data), data, num=150, seed=3)
    assert again["scores"] == record["scores"]
    smaller = read_scores(evaluate(make_bundle(data), data, num=100, seed=3))
    with pytest.raises(MeasurementError, match="num_floor: 100") as refused:
        smaller["frechet"].better_than(read_scores(record)["frechet"])
    assert "num_generated" in str(refused.value)


def test_features_are_of_a_classifier_that_works_and_come_from_the_cache(cache: Path) -> None:
    data = make_data(200)
    first = feature_extractor(data)
    assert first.name == "classifier"
    assert first.accuracy > 0.95
    files = sorted(path.suffix for path in cache.iterdir())
    assert files == [".json", ".safetensors"]
    second = feature_extractor(data)
    assert second.weights_hash == first.weights_hash == hash_tensors(first.family.state_dict())
    weights = next(cache.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])  # damaged: trained anew, to the same weights
    trained_again = feature_extractor(data)
    assert trained_again.weights_hash == first.weights_hash
    x = data.test.batch(torch.arange(10)).x
    assert first.features(x).shape == (10, 128)
    assert torch.equal(first.features(x), second.features(x))


def test_another_machine_judges_with_the_judge_in_the_bundle(cache: Path, tmp_path: Path) -> None:
    data, folder = make_data(200), tmp_path / "bundle"
    folder.mkdir()
    first = evaluate(make_bundle(data, path=folder), data)
    own = next(folder.glob("features-*.safetensors"))
    cached = cache / own.name
    assert cached.read_bytes() == own.read_bytes()

    # Another machine rounds otherwise: its own judge, trained on the same data, is another one.
    weights = read_tensors(cached)
    write_tensors(cached, {name: value + 1e-3 for name, value in weights.items()})
    theirs = cached.read_bytes()
    again = evaluate(make_bundle(data, path=folder), data)
    assert (again["scores"], again["protocol"]) == (first["scores"], first["protocol"])
    without = evaluate(make_bundle(data), data)
    assert without["protocol"]["features_sha256"] != first["protocol"]["features_sha256"]
    assert cached.read_bytes() == theirs  # what came with a bundle judges nothing else


def test_without_labels_the_extractor_says_that_its_classes_are_clusters() -> None:
    data = make_data(100, labelled=False)
    extractor = feature_extractor(data)
    assert extractor.name == "k-means classifier"
    assert extractor.accuracy > 0.5
    assert "k-means classifier" in extractor.facts()["extractor"]


def test_a_classifier_is_scored_by_its_accuracy_and_nothing_is_sampled() -> None:
    data = make_data()
    model = feature_extractor(data).family
    record = evaluate(Bundle(model, data.codec, Recipe()), data)
    accuracy = record["scores"]["accuracy"]
    assert accuracy["value"] > 0.95
    assert accuracy["n"] == len(data.test)
    assert "frechet" not in record["scores"]


def test_reconstruction_and_likelihood_are_measured_on_held_out_items() -> None:
    data = make_data()

    class Halves(nn.Module):
        """Rebuilds items at half their contrast, and finds all items equally likely."""

        spec, conditions, latent_spec = data.spec, data.conditions, data.spec
        log_prob_is, device = "exact", torch.device("cpu")

        def encode(self, x: Tensor) -> Tensor:
            return x * 0.5

        def decode(self, z: Tensor) -> Tensor:
            return z

        def log_prob(self, x: Tensor, *, cond: Any = None, generator: Any) -> Tensor:
            return torch.full((len(x),), -8.0 * 64 * 0.6931471805599453)

        def log_prob_error(self, cond: Any = None) -> float:
            return 64 * 0.6931471805599453  # a bit of each value

    model: Any = Halves()
    record = evaluate(Bundle(model, data.codec, Recipe()), data)
    batch: Batch = data.test.batch(torch.arange(len(data.test)))
    scores = record["scores"]
    assert scores["bits_per_dim"]["value"] == pytest.approx(8)
    assert scores["bits_per_dim"]["high"] == pytest.approx(8 + 1.96, abs=0.01)
    assert "log Z" in scores["bits_per_dim"]["interval"]
    expected = 0.25 * batch.x.square().mean().item()
    assert scores["reconstruction_error"]["value"] == pytest.approx(expected, rel=1e-5)


def test_too_few_samples_are_not_scored_and_few_are_scored_with_a_note() -> None:
    data = make_data()
    with pytest.raises(MeasurementError, match="too few items to score"):
        evaluate(make_bundle(data), data, num=3)
    few = evaluate(make_bundle(data), data, num=10)
    assert few["scores"]["frechet"]["n"] == 10
    assert "n is small" in few["scores"]["frechet"]["caution"]
    # What cannot be measured on so few says so, and does not take the rest with it.
    assert any("classifier_two_sample was not measured" in line for line in few["warnings"])
    assert few["copying"]["verdict"] == "too few items to tell"


def test_models_in_different_views_are_judged_in_one(tmp_path: Path) -> None:
    draw, lines = generator(0), ["weight,length,city"]
    for _ in range(160):
        city = int(randint(3, (1,), draw))
        length = 3 * city + float(randn((1,), draw))
        lines.append(f"{2 * length:.2f},{length:.2f},{['Oslo', 'Lima', 'Rome'][city]}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    records = []
    for view in ("parts", "tokens"):
        data = load(tmp_path / "table.csv", view=view)

        class Resampler(Generator):
            """Draws training items again, in its own view."""

            def sample(self, num: int, *, cond: Any = None, generator: Any) -> Any:
                index = torch.randint(len(self.real), (num,), generator=generator)
                return self.real.batch(index).x

        model: Any = Resampler(data, 1.0)
        model.real, model.conditions = data.train, {}
        records.append(evaluate(Bundle(model, data.codec, Recipe()), data))
    protocols = [record["protocol"] for record in records]
    assert protocols[0]["data_digest"] == protocols[1]["data_digest"]
    assert protocols[0]["features_sha256"] == protocols[1]["features_sha256"]
    for record in records:
        assert record["scores"]["frechet_ratio"]["value"] < 3
        assert "column_distance" in record["scores"]
        assert record["judges"]["whole_item"]["yardsticks"]


def test_data_with_nothing_held_out_is_refused() -> None:
    x, labels = pictures(3, 0)
    data = Data.from_tensors(x, labels)
    with pytest.raises(DataError, match="held-out"):
        evaluate(make_bundle(data), data)


def test_a_model_that_replays_training_items_is_found_out() -> None:
    data = make_data()

    class Copycat(Generator):
        def sample(self, num: int, *, cond: Any = None, generator: Any) -> Tensor:
            x = self.kept[torch.randint(len(self.kept), (num,), generator=generator)]
            return (x + 0.02 * torch.randn(x.shape, generator=generator)).clamp(-1, 1)

    bundle = make_bundle(data)
    copycat: Any = Copycat(data, 1.0)
    copycat.kept = data.train.batch(torch.arange(len(data.train))).x
    bundle.family = copycat
    record = evaluate(bundle, data)
    assert record["copying"]["verdict"] == "copies"
    # Its distance to held-out items is as good as real data's: only the copying test tells.
    assert record["scores"]["frechet_ratio"]["value"] < 2


def test_the_data_is_split_as_it_was_for_training(tmp_path: Path) -> None:
    x, labels = pictures(80, 0)
    for number, (picture, label) in enumerate(zip(x, labels.tolist(), strict=True)):
        file = tmp_path / "photos" / str(label) / f"p{number // 4:02d}-{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(picture.numpy()).save(file)
    settings = [r"modality.group_by=(p\d+)-", "backbone.name=mlp", "backbone.model_dim=8"]
    out = tmp_path / "run"
    train(tmp_path / "photos", "supervised", budget="1steps", out=out, settings=settings)
    protocol = evaluate(out)["protocol"]
    assert protocol["data_digest"] == protocol["trained_on_digest"]
    assert protocol["data_digest"] != load(tmp_path / "photos").digest
