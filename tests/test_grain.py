"""Exact values get the share that they have in the data, and order is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.codec import Item
from morphogen.core.grain import Grain
from morphogen.core.random import generator, randn
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import TensorSpec
from morphogen.modalities.image import Image
from morphogen.wrappers.latent_codec import LatentCodec

SPEC = TensorSpec("real", (1, 6, 6), levels=256)


def black_half(num: int, seed: int) -> Tensor:
    """Pictures in which half of the values are exactly black."""
    x = 0.3 * randn((num, *SPEC.shape), generator(seed))
    return SPEC.dequantise(SPEC.quantise(x.relu() * 2 - 1))


def share(x: Tensor, level: int = 0) -> float:
    return float((SPEC.quantise(x) == level).float().mean())


def test_samples_get_the_data_s_share_of_exact_values() -> None:
    data = black_half(400, 0)
    drawn = (black_half(400, 1) + 0.02 * randn((400, *SPEC.shape), generator(2))).clamp(-1, 1)
    fresh = (black_half(400, 3) + 0.02 * randn((400, *SPEC.shape), generator(4))).clamp(-1, 1)
    assert share(fresh) < share(data) - 0.1
    grain = Grain(SPEC)
    assert torch.equal(grain(fresh), fresh)
    told = grain.fit(data, drawn)
    assert told["exact_share_missing"] > 0.1
    mended = grain(fresh)
    assert abs(share(mended) - share(data)) < 0.01
    # It keeps order: nothing becomes brighter than what was brighter.
    order = fresh.flatten().argsort()
    assert (mended.flatten()[order].diff() >= 0).all()
    # Every level has the data's share, to within the luck of the draw.
    counts = [torch.bincount(SPEC.quantise(x).flatten(), minlength=256) for x in (mended, data)]
    assert (counts[0] - counts[1]).abs().sum() / 2 / data.numel() < 0.06
    grain.clear()
    assert torch.equal(grain(fresh), fresh)


def test_data_without_common_values_is_left_alone() -> None:
    smooth = (0.5 * randn((200, *SPEC.shape), generator(0))).clamp(-0.99, 0.99)
    grain = Grain(SPEC)
    assert grain.fit(smooth, smooth + 0.1) == {}
    assert torch.equal(grain(smooth), smooth)
    for spec in (
        TensorSpec.vector(4),
        TensorSpec.tokens(5, 3),
        TensorSpec("real", (1, 4, 4), levels=2),
    ):
        assert Grain.of(spec) is None


def test_a_denoiser_ends_its_training_with_the_grain_of_the_data() -> None:
    recipe = Recipe(family={"name": "flow_matching", "num_steps": 3}, backbone={"name": "mlp"})
    torch.manual_seed(0)
    family: Any = build_family(recipe, SPEC, {})
    data = Batch(black_half(300, 0))
    family.prepare(data, generator(0))
    before = family.sample(200, generator=generator(1))
    assert "exact_share_missing" in family.finish(data, 10_000, generator(2))
    after = family.sample(200, generator=generator(1))
    assert abs(share(after) - share(data.x)) < 0.03
    assert share(before) < share(data.x) - 0.03
    again: Any = build_family(recipe, SPEC, {})
    again.load_state_dict(family.state_dict())
    assert torch.equal(
        again.sample(20, generator=generator(3)), family.sample(20, generator=generator(3))
    )


@pytest.mark.parametrize("name", ["autoencoder", "vae", "gan", "rbm", "dbn"])
def test_so_does_every_family_that_draws_means(name: str) -> None:
    options = {"num_steps": 2} if name in ("rbm", "dbn") else {}
    recipe = Recipe(family={"name": name, **options}, backbone={"name": "mlp"})
    torch.manual_seed(0)
    family: Any = build_family(recipe, SPEC, {}).eval()
    data = Batch(black_half(300, 0))
    with torch.no_grad():
        family.prepare(data, generator(0))
    if options:  # each draw takes several passes: worth too few of them to tell
        assert family.finish(data, 10, generator(2)) == {}
    before = family.sample(200, generator=generator(1))
    assert "exact_share_missing" in family.finish(data, 10_000, generator(2))
    after = family.sample(200, generator=generator(1))
    assert share(before) < share(data.x) - 0.1
    assert abs(share(after) - share(data.x)) < 0.05


def test_a_model_from_before_there_was_a_grain_opens_without() -> None:
    family: Any = build_family(Recipe(family={"name": "vae"}, backbone={"name": "mlp"}), SPEC, {})
    old = {k: v for k, v in family.state_dict().items() if not k.startswith("grain.")}
    family.load_state_dict(old)
    assert not family.grain.fitted.any()
    with pytest.raises(RuntimeError, match="Missing key"):
        family.load_state_dict(dict(list(old.items())[1:]))


def test_a_chain_hands_out_what_its_coder_s_grain_makes_of_it() -> None:
    recipe = Recipe(family={"name": "vq_vae", "patch_size": 2}, backbone={"name": "mlp"})
    torch.manual_seed(0)
    family: Any = build_family(recipe, SPEC, {}).eval()
    data = Batch(black_half(300, 0))
    assert "exact_share_missing" in family.finish(data, 10_000, generator(2))
    codec = LatentCodec(Image().fit([Item(np.zeros((6, 6, 1), np.uint8))]), family, recipe)
    shown = codec.decode_many(family.encode(black_half(100, 1)))
    assert abs(float(np.mean([np.asarray(each) == 0 for each in shown])) - share(data.x)) < 0.05
