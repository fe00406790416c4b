"""Pictures asked for by pictures: made of items where nobody says them, and laid beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.conditioning import absent
from morphogen.core.errors import DataError
from morphogen.core.random import generator, rand, randn
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import TensorSpec
from morphogen.data.dataset import load
from morphogen.families._laid_beside import LaidBeside
from morphogen.families.flow_matching import FlowMatching
from morphogen.modalities.image.controls import coarse, edges
from morphogen.tasks.super_resolve import pool, super_resolve, unpool
from morphogen.testing.oracles import Oracle

PICTURE, MASK = TensorSpec("real", (3, 8, 8)), TensorSpec("real", (1, 4, 4))


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squares")
    for number in range(12):
        draw = np.random.default_rng(number)
        pixels = np.full((16, 16, 3), 40, dtype=np.uint8)
        top, left = draw.integers(2, 8, 2)
        pixels[top : top + 5, left : left + 5] = draw.integers(120, 255, 3)
        Pillow.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_edges_and_coarse_pictures_are_made_where_nobody_says_them(squares: Path) -> None:
    data = load(squares, conditions="edges,coarse")
    assert data.conditions["edges"].shape == (1, 16, 16)
    assert data.conditions["coarse"].shape == (3, 4, 4)
    batch = data.train.batch(torch.arange(len(data.train)))
    torch.testing.assert_close(batch.cond["coarse"], coarse(batch.x), atol=1 / 127, rtol=0)
    expected = torch.stack([edges(x) for x in batch.x])
    torch.testing.assert_close(batch.cond["edges"][:, 0], expected * 2 - 1, atol=1 / 127, rtol=0)
    told = data.report.facts["edges_is"]
    assert told.startswith("made of each item itself")
    reader = data.codec.condition_codecs["coarse"]
    again = reader.encode_many([*data.codec.condition_codecs["coarse"].read_inputs(squares)])
    assert again.shape == (12, 3, 4, 4)  # whole pictures may be given in the place of coarse ones
    with pytest.raises(DataError, match="nothing called 'depth' is said"):
        load(squares, conditions="depth")


def test_edges_are_where_a_picture_is_steep() -> None:
    x = torch.full((3, 6, 6), -1.0)
    x[:, :, 3:] = 1.0
    found = edges(x)
    assert torch.equal(found[:, 2:4], torch.ones(6, 2))
    assert not found[:, [0, 1, 4, 5]].any()
    assert not edges(torch.zeros(1, 6, 6)).any()


def test_what_is_absent_is_laid_as_nothing() -> None:
    beside = LaidBeside(PICTURE, {"mask": MASK, "label": TensorSpec.label(3)})
    assert beside.num_channels == 2
    x, mask = randn((3, *PICTURE.shape), generator(0)), randn((3, *MASK.shape), generator(1))
    mask[1] = absent(MASK)
    (laid,) = beside({"mask": mask}, x)
    assert laid.shape == (3, 2, 8, 8)
    assert bool(laid[[0, 2], 1].eq(1).all())
    assert not laid[1].any()
    torch.testing.assert_close(laid[[0, 2], :1].mean((1, 2, 3)), mask[[0, 2]].mean((1, 2, 3)))
    assert not beside(None, x)[0].any()
    series = TensorSpec("real", (1, 8), layout="sequence")
    assert not LaidBeside(series, {"past": series}).grids


def test_a_model_puts_things_where_the_mask_has_them() -> None:
    torch.manual_seed(0)
    recipe = Recipe(
        family={"name": "flow_matching", "baseline": "none", "cond_dim": 8},
        backbone={"name": "unet", "model_dim": 16, "num_mid_blocks": 1},
    )
    model = build_family(recipe, PICTURE, {"mask": MASK})
    assert isinstance(model, FlowMatching)

    def batch(num: int, seed: int) -> Batch:
        mask = 2.0 * (rand((num, *MASK.shape), generator(seed)) < 0.3) - 1
        return Batch(0.5 * unpool(mask, 2).expand(num, *PICTURE.shape), cond={"mask": mask})

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(60):
        optimizer.zero_grad()
        model.loss(batch(32, step), "all", generator(step))[0].mean().backward()
        optimizer.step()
    held = batch(64, 1000)
    with torch.no_grad():
        x = model.eval().sample(64, cond=held.cond, generator=generator(0), num_steps=6)
    assert float(((x > 0) == (held.x > 0)).double().mean()) > 0.95


class Sharpens(Oracle):
    """Draws a fine picture of a coarse one: itself, with fine noise that pools to nothing much."""

    def sample(
        self, num: int, *, cond: dict[str, Tensor] | None = None, generator: torch.Generator
    ) -> Tensor:
        assert cond is not None
        return unpool(cond["coarse"], 4) + 0.1 * randn((num, *self.spec.shape), generator)


def test_a_model_of_coarse_pictures_makes_them_finer() -> None:
    model = Sharpens(PICTURE, {"coarse": TensorSpec("real", (3, 2, 2))})
    x = rand((5, *PICTURE.shape), generator(0)) - 0.5
    found = super_resolve(model, x, factor=4, generator=generator(1))
    assert found.route == "given"
    fine = found.x[1::3]
    torch.testing.assert_close(pool(fine, 4), pool(x, 4), atol=1e-5, rtol=0)
    assert float((fine - unpool(pool(x, 4), 4)).std()) > 0.05
