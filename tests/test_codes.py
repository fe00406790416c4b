"""Codes with places: a vector for every block of positions, in the families that code items so."""

from __future__ import annotations

import pytest
import torch

from morphogen.backbones.conv import Conv
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.errors import RecipeError
from morphogen.core.random import generator
from morphogen.core.spec import TensorSpec
from morphogen.families._codes import disturbed
from morphogen.families.autoencoder import Autoencoder
from morphogen.families.vae import VAE
from morphogen.testing import check_family

PICTURE = TensorSpec("real", (1, 16, 16), levels=256)
SMALL = BuildBackbone(Conv, model_dim=8)


class PlacedAutoencoder(Autoencoder):
    """An autoencoder whose codes have places."""

    def __init__(self, spec, conditions, backbone):
        super().__init__(spec, conditions, backbone, latent_dim=2, stride=4)


class PlacedVAE(VAE):
    """A VAE whose codes have places, and a learned prior over all of them together."""

    def __init__(self, spec, conditions, backbone):
        super().__init__(spec, conditions, backbone, latent_dim=2, stride=4, likelihood="laplace")


@pytest.mark.parametrize("family", [PlacedAutoencoder, PlacedVAE])
def test_families_keep_their_promises_with_places(family):
    check_family(family, PICTURE, SMALL)


@pytest.mark.parametrize("family", [Autoencoder, VAE])
def test_a_code_has_the_places_of_its_item(family):
    """What is in one corner moves the code there, and that of the far corner not at all."""
    torch.manual_seed(0)
    spec = TensorSpec("real", (1, 64, 64), levels=256)
    build = BuildBackbone(Conv, model_dim=4, num_blocks=1)
    model = family(spec, {}, build, latent_dim=3, stride=8).eval()
    assert model.latent_spec.shape == (3, 8, 8)
    if isinstance(model, VAE):
        model.flow = None  # mixes places
    x = torch.zeros(1, 1, 64, 64)
    marked = x.clone()
    marked[..., :8, :8] = 1.0
    moved = (model.encode(x) - model.encode(marked)).abs().sum(1)[0]
    assert moved[0, 0] > 0
    assert moved[-1, -1] == 0


def test_draws_of_the_mixture_have_places():
    torch.manual_seed(0)
    model = Autoencoder(PICTURE, {}, SMALL, latent_dim=2, stride=4, num_components=2)
    model.prepare(Batch(torch.rand(40, 1, 16, 16) * 2 - 1), generator(0))
    assert model.mixture.first.shape == (2, 2 * 4 * 4)
    assert model.eval().sample(3, generator=generator(0)).shape == (3, 1, 16, 16)


@pytest.mark.parametrize(
    ("spec", "stride"),
    [(PICTURE, 3), (TensorSpec.vector(6), 2), (TensorSpec.tokens(8, 5), 2)],
    ids=str,
)
def test_places_that_do_not_fit_are_refused(spec, stride):
    for family in (Autoencoder, VAE):
        with pytest.raises(RecipeError, match="cannot have places"):
            family(spec, {}, SMALL, stride=stride)


@pytest.mark.parametrize("places", [(), (4, 4)])
def test_a_decoder_sees_codes_disturbed_by_a_share_of_their_own_deviation(places):
    draw = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.1, 3.0]).view(2, *(1,) * len(places))
    z = scale * torch.randn(4000, 2, *places, generator=draw) + 5
    assert disturbed(z, 0.0, generator(0)) is z
    noise = (disturbed(z, 0.6, generator(0)) - z) / scale
    per_number = noise.square().view(4000, 2, -1).mean((0, 2))
    # E[u^2] = 0.6^2 / 3 for each number of a code, within 5 %
    torch.testing.assert_close(per_number, torch.full((2,), 0.12), rtol=0.05, atol=0.0)
    amounts = noise.flatten(1).square().mean(1)
    assert amounts.quantile(0.9) > 4 * amounts.quantile(0.1)  # each item has its own amount


@pytest.mark.parametrize("family", [Autoencoder, VAE])
def test_codes_are_disturbed_in_training_alone(family):
    torch.manual_seed(0)
    model = family(PICTURE, {}, SMALL, latent_dim=2, stride=4, code_noise=1.0)
    batch = Batch(torch.rand(6, 1, 16, 16) * 2 - 1)
    plain = family(PICTURE, {}, SMALL, latent_dim=2, stride=4)
    plain.load_state_dict(model.state_dict())
    for training, same in ((True, False), (False, True)):
        losses = [each.train(training).loss(batch, "model", generator(1))[0].mean()
                  for each in (model, plain)]  # fmt: skip
        assert torch.equal(*losses) == same


@pytest.mark.parametrize(
    ("family", "option"),
    [(VAE, "code_noise"), (Autoencoder, "code_noise"), (Autoencoder, "noise_std")],
)
@pytest.mark.parametrize("most", [-0.5, float("nan"), float("inf")])
def test_an_amount_of_noise_that_is_none_is_refused_by_name(family, option, most):
    with pytest.raises(RecipeError, match=f"family.{option}"):
        family(PICTURE, {}, SMALL, latent_dim=2, **{option: most})
