"""Pictures of several shapes in one model: laid in frames, cut out again, asked for by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from morphogen.core.codec import Item
from morphogen.core.codec_storage import codec_tensors, describe_codec, rebuild_codec
from morphogen.core.errors import DataError
from morphogen.core.random import generator, randn
from morphogen.data.dataset import Data, load
from morphogen.modalities.image import Image
from morphogen.modalities.image.shapes import MOST_CUT, Shapes, proposed

NAMES = ("12x6", "6x12", "8x8")
ASKED = "12x6,6x12,8x8"


def pixels(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures of each shape, in twice its size, each shape in a colour of its own; and one
    that is like none."""
    folder = tmp_path_factory.mktemp("shapes")
    for number in range(60):
        height, width = Shapes(NAMES).sizes[number % 3]
        value = pixels(2 * width, 2 * height, number) // 4
        value[..., number % 3] += 150
        Pillow.fromarray(value).save(folder / f"{number:02d}.png")
    Pillow.fromarray(pixels(90, 9)).save(folder / "ribbon.png")
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> Data:
    return load(folder, shapes=ASKED, conditions="shape")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_picture_of_a_shape_comes_back_bit_by_bit(channels: int) -> None:
    items = [
        Item(pixels(*map(int, name.split("x")), seed)[..., [0, 1, 2, 0][:channels]].squeeze())
        for seed, name in enumerate(NAMES)
    ]
    codec = Image(shapes=NAMES).fit(items)
    assert codec.spec.shape == (channels + 1, 12, 12)
    for item, back in zip(items, codec.decode_many(codec.encode_many(items)), strict=True):
        assert np.array_equal(np.asarray(back), item.value)


@given(number=st.integers(0, 2), seed=st.integers(0, 2**31), share=st.floats(0, 0.3))
def test_the_frame_is_told_whatever_is_in_it_and_where_some_of_it_is_wrong(
    number: int, seed: int, share: float
) -> None:
    shapes, draw = Shapes(NAMES), generator(seed)
    height, width = shapes.sizes[number]
    x = shapes.laid(randn((1, 3, height, width), draw), number, 0.0)[0]
    inside = x[:-1, shapes.frames[number] > 0].clone()
    x[-1] += share * randn(x[-1].shape, draw)
    assert shapes.told(x) == number
    assert shapes.cut(x).shape == (3, height, width)
    assert torch.equal(shapes.cut(x).flatten(1), inside)


@given(height=st.integers(1, 500), width=st.integers(1, 500))
def test_the_nearest_shape_is_that_which_costs_least(height: int, width: int) -> None:
    shapes = Shapes([*NAMES, "24x12"])
    kept = [  # of the picture, where the largest part of a shape's ratio is cut out of it
        min(height / h, width / w) ** 2 * h * w / (height * width) for h, w in shapes.sizes
    ]
    number = shapes.nearest(height, width)
    assert kept[number] == pytest.approx(max(kept))
    assert shapes.fits(height, width) == (kept[number] >= 1 - MOST_CUT - 1e-9)


def test_what_fits_no_shape_is_named_counted_and_kept(data: Data) -> None:
    told = [problem for problem in data.report.problems if "fits none" in problem.reason]
    assert [problem.name for problem in told] == ["ribbon.png"]
    assert "about 10:1 " in told[0].fix
    assert not told[0].fatal
    assert data.report.facts["shape_counts"] == "12x6 21, 6x12 20, 8x8 20"
    assert len(data.train) + len(data.test) == 61


def test_what_is_said_of_an_item_is_the_shape_that_it_comes_back_in(
    data: Data, tmp_path: Path
) -> None:
    classes = data.codec.condition_codecs["shape"].state()["classes"]
    batch = data.train.batch(torch.arange(len(data.train)))
    values = data.codec.decode_many(batch.x)
    said = [classes[int(number)] for number in batch.cond["shape"]]
    assert [f"{value.width}x{value.height}" for value in values] == said
    assert set(said) == set(NAMES)
    sheet = Pillow.open(data.codec.write(values[:4], tmp_path / "sheet.png", 4))
    assert ((sheet.width - 2) // 4 - 2) % 12 == 0  # the widest has room


def test_shapes_go_into_a_bundle_and_older_ones_have_none() -> None:
    codec = Image(shapes=NAMES).fit([Item(pixels(12, 6))])
    again = rebuild_codec(describe_codec(codec), codec_tensors(codec))
    item = Item(pixels(30, 20))
    assert torch.equal(again.encode(item), codec.encode(item))
    plain = Image(size=8).fit([Item(pixels(8, 8))])
    assert "shapes" not in plain.state()["options"]
    assert Image.from_state(plain.state(), {}).shapes is None


def test_shapes_are_proposed_where_pictures_differ_in_them() -> None:
    assert proposed([(20, 40)] * 5 + [(40, 20)] * 5, 16, 8) == ["16x16", "24x8", "8x24"]
    assert proposed([(32, 31)] * 9, 32, 8) == ["32x32"]
    codec = Image().fit([Item(pixels(20, 40)), Item(pixels(40, 20))])
    assert codec.facts["shapes"].startswith("kept by --set modality.shapes=")


@pytest.mark.parametrize("asked", ["40", "x", "0x8", "8x8,16x9000", "8x8,8 x 8", "wide"])
def test_what_is_no_shape_is_refused(asked: str) -> None:
    with pytest.raises(DataError, match="shape"):
        Shapes(asked.split(","))


def test_one_size_and_several_shapes_are_not_asked_for_together(folder: Path) -> None:
    with pytest.raises(DataError, match="how large"):
        load(folder, size=8, shapes=ASKED)
    with pytest.raises(DataError, match="one shape alone"):
        load(folder, shapes=ASKED, conditions="edges")
