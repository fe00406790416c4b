"""A trained model that others look through: features of items and of changed copies of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.codec_storage import codec_tensors, describe_codec, rebuild_codec
from morphogen.core.errors import BundleError, RefusedPair
from morphogen.core.matching import Matcher
from morphogen.core.random import generator, rand
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.core.spec import TensorSpec
from morphogen.core.varied import Variation
from morphogen.data.dataset import Data, load
from morphogen.data.listing import write_hashes
from morphogen.data.places import name_of
from morphogen.data.store import Varied
from morphogen.evaluation._given import _aligned
from morphogen.evaluation.alignment import may_have_learned, named_judge
from morphogen.metrics.alignment import alignment
from morphogen.modalities.category import Category
from morphogen.modalities.image import Image
from morphogen.training.run import prepare, train
from morphogen.wrappers import feature_codec
from morphogen.wrappers.feature_codec import FeatureCodec

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}
NUM = 72
TINY = ["train.num_previews=0", "train.device=cpu", "train.lr=1e-2"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one colour and some noise, and what it is called."""
    folder = tmp_path_factory.mktemp("pairs")
    lines = ["file,caption"]
    for number in range(NUM):
        name, pixel = list(COLOURS.items())[number % 3]
        noise = np.random.default_rng(number).integers(-25, 25, (8, 8, 3))
        shown = (np.array(pixel) + noise).clip(0, 255).astype(np.uint8)
        Pillow.fromarray(shown).save(folder / f"{number:02d}.png")
        lines.append(f"{number:02d}.png,a {name} thing before a ground of no colour at all")
    (folder / "captions.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def eyes() -> Bundle:
    """A classifier of larger pictures, untrained: it has features and decodes nothing."""
    codec = Image(size=12, mode="RGB")
    codec.fit([Item(Pillow.new("RGB", (12, 12), each)) for each in COLOURS.values()])
    codec.condition_codecs["label"] = Category().fit([Item(name) for name in COLOURS])
    recipe = Recipe(
        family={"name": "supervised", "target": "label", "feature_dim": 24},
        backbone={"name": "conv", "model_dim": 8},
    )
    torch.manual_seed(0)
    family = build_family(recipe, codec.spec, {"label": TensorSpec.label(3)})
    return Bundle(family.eval(), codec, resolve(recipe, codec.spec))


@pytest.fixture(scope="module")
def data(pairs: Path) -> Data:
    return load(pairs, conditions="caption")


@pytest.fixture(scope="module")
def seen(data: Data, eyes: Bundle) -> Data:
    """The pairs through the eyes, as `--through` has them."""
    return prepare(data, "contrastive", through=eyes, dry=True, settings=TINY).data


def test_what_is_learned_are_features_of_items_and_of_their_copies(
    data: Data, eyes: Bundle, seen: Data
) -> None:
    assert seen.spec == TensorSpec.vector(24)
    assert isinstance(seen.train, Varied)
    first, *copies = (each.batch(torch.arange(len(data.train))).x for each in seen.train.variants)
    assert len(copies) == feature_codec.MOST_COPIES
    assert (len(seen.train), len(seen.test)) == (len(data.train), len(data.test))
    assert torch.equal(first, seen.train.batch(torch.arange(len(data.train))).x)
    x = torch.cat([first, *copies])
    torch.testing.assert_close(x.mean(0), torch.zeros(24), atol=0.1, rtol=0)
    assert float(x.abs().max()) <= feature_codec.MOST_STDS
    drawn = seen.train.drawn(torch.arange(4), torch.tensor([0.0, 0.3, 0.5, 0.9])).x
    wanted = [first[0], copies[0][1], copies[1][2], copies[3][3]]
    torch.testing.assert_close(drawn, torch.stack(wanted))
    value = data.codec.decode(data.train.batch(torch.arange(1)).x[0])
    own = eyes.family.features(eyes.codec.encode(Item(value))[None])[0]  # type: ignore[attr-defined]
    codec = seen.codec
    assert isinstance(codec, FeatureCodec)
    torch.testing.assert_close(x[0], ((own - codec.mean) / codec.std).clamp(-6, 6))
    assert bool((first - copies[0]).abs().amax(1).gt(1e-3).all())


def test_copies_are_as_many_as_may_be_read_and_vary_as_a_family_would_vary_them(
    data: Data, eyes: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*TINY, "family.max_noise=0.5", "family.flip_prob=1"]
    codec = prepare(data, "contrastive", through=eyes, dry=True, settings=settings).data.codec
    assert isinstance(codec, FeatureCodec)
    assert codec.variation == Variation(1, 1.0, 0.0, 0.2, 1.3, 0.5)
    monkeypatch.setattr(feature_codec, "MOST_READ", 100)
    assert [codec.num_copies(num) for num in (1, 25, 34, 60, 1000)] == [4, 3, 1, 0, 0]


def test_it_is_rebuilt_whole_and_gives_the_same(seen: Data) -> None:
    codec = seen.codec
    again = rebuild_codec(describe_codec(codec), codec_tensors(codec))
    items = [Item(Pillow.new("RGB", (9, 7), each)) for each in COLOURS.values()]
    torch.testing.assert_close(again.encode_many(items), codec.encode_many(items))
    assert again.digest == codec.digest  # type: ignore[attr-defined]
    assert again.conditions == codec.conditions
    with pytest.raises(RefusedPair, match="cannot be drawn again"):
        again.decode(torch.zeros(24))


def test_what_sees_nothing_or_other_things_is_refused(
    data: Data, eyes: Bundle, tmp_path: Path
) -> None:
    recipe = Recipe(family={"name": "flow_matching"}, backbone={"name": "unet", "model_dim": 8})
    blind = Bundle(build_family(recipe, data.spec, {}), data.codec, resolve(recipe, data.spec))
    with pytest.raises(RefusedPair, match="sees nothing"):
        prepare(data, "contrastive", through=blind, dry=True, settings=TINY)
    unread = Path("nowhere")  # refused before it would be read
    with pytest.raises(RefusedPair, match="sees nothing in items"):
        prepare(unread, "contrastive", through=blind, dry=True)
    with pytest.raises(BundleError, match="no bundle here"):
        prepare(unread, "contrastive", through=tmp_path, dry=True)
    texts = load(["a b c", "d e f", "g h i", "j k l"] * 8, "text")
    with pytest.raises(RefusedPair, match="does not take these items"):
        prepare(texts, "contrastive", through=eyes, dry=True, settings=TINY)


def test_a_judge_with_such_eyes_says_what_other_models_draw(
    data: Data, eyes: Bundle, tmp_path: Path
) -> None:
    """Trained through a model of larger pictures, it takes pictures as the data has them, stays
    whole on disk, and is sure of soft and speckled ones too."""
    out = tmp_path / "judge"
    train(
        data, "contrastive", through=eyes, backbone="linear", budget="60steps", out=out,
        settings=[*TINY, "backbone.dropout_prob=0.1"],
    )  # fmt: skip
    bundle = Bundle.open(out)
    judge = named_judge(bundle, data)
    assert judge.num == 3
    assert judge.found > 0.7
    assert judge.facts()["judge"] == "judge"
    x, asked = data.test.batch(torch.arange(len(data.test))).x, data.test.cond["caption"]
    soft = Variation(max_blur=1.0, max_noise=0.2)(x, generator(0)).clamp(-1, 1)
    own = (judge.items(soft) * judge.conditions(asked)).sum(1)
    others = (judge.items(soft) @ judge.conditions(asked).T).mean(1)
    assert float((own > others).double().mean()) > 0.7
    with pytest.raises(RefusedPair, match="does not say whether"):
        Matcher(eyes, data.codec)
    check_an_evaluation_asks_it(bundle, data)


def check_an_evaluation_asks_it(bundle: Bundle, data: Data) -> None:
    """In place of a judge of its own; who learned from other data may know what is held out."""
    x, asked = data.test.batch(torch.arange(len(data.test))).x, data.test.cond
    strange = replace(bundle, data={"source": name_of(data.source), "digest": "other"}, path=None)
    for named, told in ((bundle, 0), (strange, 1)):
        record: dict[str, Any] = {"protocol": {}, "warnings": []}
        sets = _aligned(record, (x, asked), (bundle, data), 0, named)
        assert alignment(sets, generator=generator(0))["asked_first"] > 0.7
        assert record["pair_judge"]["held_out_pairs_found"] > 0.7
        assert len(record["warnings"]) == told


def test_whether_a_judge_may_know_what_is_held_out_is_told_by_files_and_sides(
    data: Data, eyes: Bundle, tmp_path: Path
) -> None:
    family: Any = SimpleNamespace(target="caption")
    unlike = replace(data, digest="of another encoding")
    judge = replace(eyes, family=family, data=data.about() | {"source": "elsewhere"}, path=tmp_path)
    assert may_have_learned(judge, data) == "", "whatever it is called"
    through = replace(judge, data={"digest": f"{data.digest}-eyes"})
    assert may_have_learned(through, data) == ""
    write_hashes(tmp_path, data.files | {"more.png": "0" * 16})
    assert may_have_learned(judge, unlike) == "", "every file was there, on its side"
    moved = dict.fromkeys(list(data.files)[:3], "1" * 16)
    told = may_have_learned(judge, replace(unlike, files=data.files | moved))
    assert f"{len(data.files) - 3} of {len(data.files) - 2} files" in told
    assert f"morphogen train {data.source} --condition caption --family contrastive" in told


def test_blur_and_noise_keep_what_they_should() -> None:
    flat = torch.full((3, 2, 6, 7), 0.4)
    torch.testing.assert_close(Variation(max_blur=2.0)(flat, generator(1)), flat)
    x = rand((64, 1, 9, 9), generator(2)) * 2 - 1
    soft = Variation(max_blur=1.5)(x, generator(3))
    assert bool((soft.flatten(1).var(1) <= x.flatten(1).var(1) + 1e-4).all())
    point = torch.zeros(8, 1, 15, 15)
    point[:, :, 7, 7] = 1.0
    spread = Variation(max_blur=1.0)(point, generator(4))
    torch.testing.assert_close(spread.sum((1, 2, 3)), torch.ones(8))
    torch.testing.assert_close(spread, spread.transpose(2, 3))
    sizes = (Variation(max_noise=0.3)(x, generator(5)) - x).flatten(1).std(1)
    assert float(sizes.max()) < 0.4
    assert float(sizes.mean()) == pytest.approx(0.15, abs=0.03)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_changes_items_by_its_own_draws() -> None:
    x = torch.rand(3, 1, 8, 8, device="cuda")
    every = Variation(1, 0.5, 0.3, 0.1, 1.0, 0.1)
    changed = every(x, generator(0, "cuda"))
    assert changed.shape == x.shape
    assert not torch.equal(changed, x)
    shown = every(x, generator(0))
    assert torch.isfinite(shown).all()
