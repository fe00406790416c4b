"""Hidden features that tell what another model sees in the item, and items as a condition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from morphogen.backbones.mlp import MLP
from morphogen.backbones.transformer import Transformer
from morphogen.backbones.unet import UNet
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.errors import DataError, RecipeError, RefusedPair
from morphogen.core.random import generator
from morphogen.core.recipe import Recipe
from morphogen.core.spec import TensorSpec
from morphogen.data.dataset import load
from morphogen.drivers.clip import pictures_of
from morphogen.drivers.efficientnet_lite import EfficientnetLite
from morphogen.families._told import Told
from morphogen.families.diffusion import Diffusion
from morphogen.families.flow_matching import FlowMatching
from morphogen.training.run import train
from morphogen.wrappers.map_codec import MapCodec

PICTURE = TensorSpec("real", (3, 8, 8), levels=256)
SEEN = TensorSpec("real", (5, 2, 2), layout="grid")
CONDITIONS = {"label": TensorSpec.label(3), "itself": SEEN}
NETWORKS = {
    "transformer": BuildBackbone(Transformer, model_dim=32, num_layers=3, patch_size=2),
    "unet": BuildBackbone(UNet, model_dim=8, num_levels=2),
}


def batch_of(num: int = 6) -> Batch:
    draw = generator(3)
    x = torch.rand(num, 3, 8, 8, generator=draw) * 2 - 1
    seen = torch.randn(num, *SEEN.shape, generator=draw)
    return Batch(x, cond={"label": torch.arange(num) % 3, "itself": seen})


@pytest.mark.parametrize("name", NETWORKS)
def test_features_half_way_come_beside_the_same_output(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](PICTURE, PICTURE, 16).eval()
    x, cond = torch.randn(2, 3, 8, 8), torch.randn(2, 16)
    out, half = network.run(x, cond, midway=True)
    assert torch.equal(out, network.run(x, cond))
    assert half.shape == (2, network.midway_dim, 4, 4)


def test_what_is_told_is_compared_place_by_place() -> None:
    told = Told("itself", SEEN, 5)
    told.head = torch.nn.Identity()
    fine = torch.randn(4, 5, 4, 4, generator=generator(0))
    coarse = torch.nn.functional.avg_pool2d(fine, 2)
    torch.testing.assert_close(told(fine, coarse), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(told(fine, -coarse), torch.full((4,), 2.0))
    value = coarse.clone()
    value[1] = torch.nan  # of this item nothing is known
    assert told(fine, -value)[1] == 0
    of_whole = Told("itself", TensorSpec.vector(5), 5)
    of_whole.head = torch.nn.Identity()
    assert of_whole(fine, fine.mean((2, 3))).abs().max() < 1e-6
    text = Told("text", TensorSpec("real", (5, 7), layout="sequence"), 5)
    text.head = torch.nn.Identity()
    begins = torch.cat([fine.mean((2, 3))[..., None], torch.randn(4, 5, 6)], 2)
    assert text(fine, begins).abs().max() < 1e-6


@pytest.mark.parametrize("family", [FlowMatching, Diffusion])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_tells_and_nothing_else_hears(family: Any, name: str) -> None:
    torch.manual_seed(0)
    model = family(PICTURE, CONDITIONS, NETWORKS[name], told="itself", told_weight=0.5)
    torch.manual_seed(0)
    plain = family(PICTURE, {"label": CONDITIONS["label"]}, NETWORKS[name])
    model.load_state_dict(plain.state_dict(), strict=False)
    assert list(model.conditions) == ["label"]
    assert model.built_for.keys() == CONDITIONS.keys()
    batch = batch_of()
    own = Batch(batch.x, cond={"label": batch.cond["label"]})
    for each in (model, plain):
        each.prepare(batch if each is model else own, generator(0))
    loss, parts = model.loss(batch, "all", generator(1))
    alone = plain.loss(own, "all", generator(1))[0]
    torch.testing.assert_close(loss, alone + 0.5 * parts["told"])
    model.eval(), plain.eval()
    held_out, parts = model.loss(batch, "all", generator(1))
    assert "told" not in parts
    assert torch.equal(held_out, plain.loss(own, "all", generator(1))[0])
    cond = {"label": torch.tensor([0, 2])}
    drawn = (each.sample(2, cond=cond, generator=generator(2)) for each in (model, plain))
    assert torch.equal(*drawn)
    with pytest.raises(RefusedPair, match="no condition 'itself'"):
        model.sample(6, cond={"itself": batch.cond["itself"]}, generator=generator(2))


def test_what_cannot_be_told_is_refused() -> None:
    model = FlowMatching(PICTURE, CONDITIONS, NETWORKS["unet"], told="itslef")
    with pytest.raises(RecipeError, match="a condition that a model has read") as error:
        model.prepare(batch_of(), generator(0))
    assert "label, itself" in str(error.value)
    with pytest.raises(RecipeError, match="a condition that a model has read"):
        FlowMatching(PICTURE, CONDITIONS, NETWORKS["unet"], told="label")  # a class is no features
    with pytest.raises(RefusedPair, match="no features half-way"):
        FlowMatching(PICTURE, CONDITIONS, BuildBackbone(MLP), told="itself")


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that sees pictures of 64 x 64 at 2 x 2 places, of random weights."""
    codec = pictures_of(64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = EfficientnetLite(codec.spec, {}, image_size=64, num_classes=10).eval()
    recipe = Recipe(driver={"name": "efficientnet_lite", "image_size": 64, "num_classes": 10})
    out = tmp_path_factory.mktemp("eyes") / "bundle"
    Bundle(model, codec, recipe).save(out)
    return out


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for number in range(40):
        pixels = draw.integers(0, 90, (8, 8, 3), dtype=np.uint8)
        pixels[: 2 + number % 5, :, number % 3] += 150
        place = folder / "abc"[number % 3]
        place.mkdir(exist_ok=True)
        Pillow.fromarray(pixels).save(place / f"{number}.png")
    return folder


def test_items_are_read_place_by_place(eyes: Path, photos: Path) -> None:
    data = load(photos, conditions=f"label,itself={eyes}")
    reader = data.codec.condition_codecs["itself"]
    assert isinstance(reader, MapCodec)
    assert data.conditions["itself"] == TensorSpec("real", (624, 2, 2), layout="grid")
    item = Item(np.asarray(Pillow.open(photos / "a" / "0.png")))
    bundle = Bundle.open(eyes)
    seen = bundle.family.map_features(bundle.encode(item))[0].detach()
    told = reader.encode(item) * reader.std[:, None, None] + reader.mean[:, None, None]
    inside = reader.encode(item).abs() < 6  # the others are cut
    torch.testing.assert_close(told[inside], seen[inside], atol=1e-4, rtol=1e-4)
    again = MapCodec.from_state(reader.state(), reader.tensors())
    assert torch.equal(again.encode(item), reader.encode(item))
    with pytest.raises(RefusedPair, match="cannot be drawn again"):
        reader.decode(reader.encode(item))
    with pytest.raises(DataError, match="until a model says what it sees") as error:
        load(photos, conditions="label,itself")
    assert "itself=models/eyes" in str(error.value)
    with pytest.raises(RecipeError, match="would no longer fit"):
        train(photos, budget="1steps", settings=[
            f"modality.conditions=itself={eyes}", "family.told=itself", "modality.mirror=yes",
        ])  # fmt: skip


def test_from_data_to_pictures_and_through_a_break(
    eyes: Path, photos: Path, tmp_path: Path
) -> None:
    settings = [
        f"modality.conditions=label,itself={eyes}", "family.told=itself", "train.num_previews=1",
        "backbone.model_dim=32", "backbone.num_layers=2", "train.batch_size=16",
    ]  # fmt: skip
    options: Any = {"family": "flow_matching", "backbone": "transformer", "settings": settings}
    whole = train(photos, budget="30steps", out=tmp_path / "whole", **options)
    log = list((tmp_path / "whole" / "log.jsonl").read_text().splitlines())
    told = [float(line.split('"told": ')[1].split(",")[0]) for line in log if '"told"' in line]
    assert told[-1] < 0.8 * told[0], told
    opened = Bundle.open(tmp_path / "whole")
    assert list(opened.family.conditions) == list(opened.codec.conditions) == ["label"]
    assert list(whole.codec.conditions) == ["label", "itself"], "of the run itself"
    kept = opened.family.state_dict()
    left = {name: value for name, value in whole.family.state_dict().items() if name not in kept}
    assert left
    assert all(name.startswith("told.") for name in left)
    drawn = opened.sample(2, seed=0, cond={"label": "a"})
    assert torch.equal(drawn.x, whole.sample(2, seed=0, cond={"label": "a"}).x)
    fast = train(photos, start=tmp_path / "whole", budget="2steps", out=tmp_path / "fast",
                 settings=["objective.name=few_steps"])  # fmt: skip
    assert list(Bundle.open(tmp_path / "fast").family.conditions) == list(fast.family.conditions)
