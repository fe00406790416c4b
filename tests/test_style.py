"""A generator that is steered layer by layer: its arithmetic, and tasks that mix and project."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from morphogen.backbones.conv import Conv
from morphogen.backbones.style import GAIN, SLOPE, Style
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.capability import CanMix, missing
from morphogen.core.errors import RefusedPair
from morphogen.core.random import generator, rand, randn
from morphogen.core.spec import TensorSpec
from morphogen.families.gan import GAN
from morphogen.tasks.mix import mix
from morphogen.tasks.morph import morph
from morphogen.tasks.project import project
from morphogen.testing.oracles import TwoStyles

GREY = TensorSpec("real", (1, 12, 12), levels=17)
LABEL = {"label": TensorSpec.label(3)}
BUILD = BuildBackbone(Style, model_dim=4, style_dim=8, mapping_layers=2)


def gan(**options: object) -> GAN:
    torch.manual_seed(0)
    return GAN(GREY, LABEL, BUILD, latent_dim=6, **options).eval()


@torch.no_grad()
def test_modulated_as_if_each_item_had_weights_of_its_own() -> None:
    layer = gan().generator.layers[2]
    h, w = randn((3, 8, *layer.space), generator(0)), randn((3, 8), generator(1))
    weight = layer.mix.weight[None] * (1 + layer.affine(w))[:, None, :, None, None]
    weight = weight / weight.square().sum((2, 3, 4), keepdim=True).sqrt()
    plain = torch.cat([F.conv2d(h[i : i + 1], weight[i], padding=1) for i in range(3)])
    wanted = F.leaky_relu(plain + layer.mix.bias.view(1, -1, 1, 1), SLOPE) * GAIN
    torch.testing.assert_close(
        layer(h, w, torch.zeros(3, h[0, 0].numel())), wanted, rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_styles_decide_what_is_made() -> None:
    model = gan()
    z, cond = randn((2, 6), generator(0)), {"label": torch.tensor([0, 2])}
    styles = model.styles(z, cond)
    assert styles.shape == (2, model.num_styles, 8)
    torch.testing.assert_close(model.from_styles(styles), model.decode(z, cond))
    # As long as a latent is no direction: a mapping network sees where it points.
    torch.testing.assert_close(model.styles(3 * z, cond), styles, rtol=1e-4, atol=1e-5)
    other = torch.cat([styles[:, :1], styles[:, 1:].flip(0)], 1)
    assert not torch.allclose(model.from_styles(other), model.from_styles(styles))
    # The strength of noise is 0 at first, so that the mean of a label is all that is left.
    zeros = {"label": torch.zeros(4, dtype=torch.long)}
    still = model.sample(4, generator=generator(1), truncation=0.0, cond=zeros)
    torch.testing.assert_close(still, model.from_styles(model._mean_styles(4, zeros)))
    assert not torch.equal(still, model.sample(4, generator=generator(1), cond=zeros))


def test_noise_and_mixing_are_learned_along_and_drawn_by_seed() -> None:
    x = 2 * rand((3, 1, 12, 12), generator(0)) - 1
    batch = Batch(x, cond={"label": torch.tensor([0, 1, 2])})
    model = gan(mix_prob=1.0)
    losses = [model.loss(batch, "generator", generator(seed))[0] for seed in (1, 1, 2)]
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)
    assert not torch.equal(losses[0], losses[2])
    losses[0].sum().backward()
    assert all(layer.noise.grad.abs().sum() > 0 for layer in model.generator.layers[2:-1])
    assert not missing(model, CanMix)


def test_a_generator_without_styles_has_none() -> None:
    model = GAN(GREY, {}, BuildBackbone(Conv, model_dim=4), latent_dim=6)
    assert missing(model, CanMix)
    with pytest.raises(RefusedPair, match="only styles are truncated"):
        model.sample(2, generator=generator(0), truncation=0.5)


@torch.no_grad()
def test_a_table_of_mixes_is_coarse_as_its_row_fine_as_its_column() -> None:
    model = TwoStyles()
    table = mix(model, generator=generator(0), num=2).x.view(3, 3, 4)
    assert (table[0, 0] == 0).all()
    for row in (1, 2):
        for column in (1, 2):
            torch.testing.assert_close(table[row, column, :2], table[row, 0, :2])
            torch.testing.assert_close(table[row, column, 2:], table[0, column, 2:])


@torch.no_grad()
def test_an_item_is_found_in_the_space_of_styles() -> None:
    model = TwoStyles()
    x = model.sample(3, generator=generator(3))
    found = project(model, x, generator=generator(0), num_steps=120, lr=0.3, prior=0.0)
    rebuilt = found.x.view(3, 2, 4)[:, 1]
    torch.testing.assert_close(rebuilt, x, rtol=0, atol=0.02)
    assert max(found.values["error"]) < 1e-3 < min(found.values["error_of_mean"])
    way = project(model, x[:2], generator=generator(0), num_steps=120, lr=0.3, prior=0.0, path=1)
    torch.testing.assert_close(way.x[2], x[:2].mean(0), rtol=0, atol=0.02)


@torch.no_grad()
def test_from_one_label_to_the_other_the_rest_stays() -> None:
    class Reads:
        def parse(self, text: str) -> int:
            return int(text)

    class Codec:
        condition_codecs = {"label": Reads()}

        def encode_condition(self, name: str, value: int) -> torch.Tensor:
            return torch.tensor(value)

    rows = morph(TwoStyles(), Codec(), generator=generator(0), start="0", end="1", num=2, steps=3).x
    for row in rows.view(2, 3, 4):
        torch.testing.assert_close(row[1] - row[0], torch.full((4,), 0.5))
        torch.testing.assert_close(row[2] - row[0], torch.ones(4))
    with pytest.raises(RefusedPair, match=r"'labl'.*label"):
        morph(TwoStyles(), Codec(), generator=generator(0), of="labl")
