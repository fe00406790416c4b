"""A linear autoencoder reaches the error of principal components; its mixture fits its codes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from morphogen.backbones.conv import Conv
from morphogen.backbones.mlp import MLP
from morphogen.core.backbone import Backbone, BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.random import generator, randint, randn
from morphogen.core.spec import TensorSpec
from morphogen.families.autoencoder import Autoencoder, LatentMixture

SPECS = [
    TensorSpec("real", (2, 12), levels=5, layout="sequence"),
    TensorSpec("real", (1, 8, 8), levels=17),
    TensorSpec("real", (1, 4, 4, 6)),
    TensorSpec.vector(6),
    TensorSpec.tokens(9, 4),
]


class Affine(Backbone):
    """One affine map."""

    def __init__(self, in_spec, out_spec, cond_dim=0, causal=False):
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.map = nn.Linear(in_spec.num_values, out_spec.num_values)

    def forward(self, x, cond=None):
        return self.map(x.flatten(1)).unflatten(1, self.out_spec.shape)


def train(model, x, steps, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    draw = generator(0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.loss(Batch(x), "all", draw)[0].mean()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_linear_autoencoder_reaches_the_error_of_principal_components():
    torch.manual_seed(0)
    x = randn((256, 8), generator(1)) * torch.tensor([3.0, 2.0, 1.5, 0.3, 0.2, 0.2, 0.1, 0.1])
    x = x @ torch.linalg.qr(randn((8, 8), generator(2)))[0]
    spectrum = torch.linalg.svdvals(x - x.mean(0)).square()
    best = (spectrum[3:].sum() / x.numel()).item()
    build = BuildBackbone(Affine)
    model = Autoencoder(TensorSpec.vector(8), {}, build, latent_dim=3, latent_penalty=0.0)
    train(model, x, 400, 0.02)
    model.eval()
    error = (model.decode(model.encode(x)) - x).square().mean().item()
    assert best <= error + 1e-6
    assert error < 1.05 * best
    sigma = model.likelihood.log_sigma.exp().item()
    assert sigma == pytest.approx(error**0.5, rel=0.05)


def test_denoising_recovers_what_the_noise_hid():
    """For Gaussian data the best denoiser is s^2 / (s^2 + noise^2) x: it shrinks."""
    torch.manual_seed(0)
    spec = TensorSpec.vector(4)
    x = 0.5 * randn((4096, 4), generator(1))
    model = Autoencoder(
        spec, {}, BuildBackbone(Affine), latent_dim=4, noise_std=0.5, latent_penalty=0.0
    )
    train(model, x, 300, 0.02)
    rebuilt = model.eval().decode(model.encode(torch.eye(4))) - model.decode(
        model.encode(torch.zeros(4, 4))
    )
    torch.testing.assert_close(rebuilt, 0.5 * torch.eye(4), atol=0.06, rtol=0)


def test_noise_on_tokens_is_refused():
    with pytest.raises(RecipeError, match="noise_std"):
        Autoencoder(TensorSpec.tokens(4, 3), {}, BuildBackbone(MLP), noise_std=0.1)


def two_clusters(num: int, seed: int) -> torch.Tensor:
    """Two correlated Gaussians, one with three quarters of the mass."""
    which = (randint(4, (num,), generator(seed)) == 0).long()
    factor = torch.tensor([[[1.0, 0.0], [0.9, 0.3]], [[0.3, 0.0], [-0.4, 1.0]]])
    centre = torch.tensor([[10.0, 0.0], [-6.0, 20.0]])
    eps = randn((num, 2), generator(seed + 1))
    return centre[which] + torch.einsum("bij,bj->bi", factor[which], eps)


def test_mixture_follows_the_codes():
    mixture = LatentMixture(2, 4)
    mixture.start(two_clusters(256, 0), generator(0))
    for step in range(600):
        mixture.follow(two_clusters(128, 10 + step))
    drawn, truth = mixture.sample(20_000, generator(1)), two_clusters(20_000, 5)
    right, share = drawn[:, 0] > 2, (truth[:, 0] > 2).float().mean()
    assert right.float().mean().item() == pytest.approx(share.item(), abs=0.04)
    for found, expected in (
        (drawn[right], truth[truth[:, 0] > 2]),
        (drawn[~right], truth[truth[:, 0] <= 2]),
    ):
        torch.testing.assert_close(found.mean(0), expected.mean(0), atol=0.15, rtol=0)
        torch.testing.assert_close(found.T.cov(), expected.T.cov(), atol=0.2, rtol=0)


def test_mixture_density_is_the_one_it_draws_from():
    mixture = LatentMixture(2, 3)
    mixture.start(two_clusters(64, 0), generator(0))
    mean, factor = mixture._means_and_factors()
    z = two_clusters(5, 1)
    normals = torch.distributions.MultivariateNormal(mean, scale_tril=factor)
    expected = normals.log_prob(z[:, None]) + mixture.weight.log()
    found = mixture.log_joint(z)
    torch.testing.assert_close(found.softmax(1), expected.softmax(1), atol=1e-4, rtol=1e-3)


def test_mixture_survives_identical_codes_and_forgets_the_past():
    mixture = LatentMixture(3, 5)
    mixture.start(torch.zeros(2, 3), generator(0))
    for _ in range(400):
        mixture.follow(torch.full((16, 3), 7.0))
    drawn = mixture.sample(100, generator(0))
    torch.testing.assert_close(drawn, torch.full((100, 3), 7.0), atol=0.5, rtol=0)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_any_spec_learns_samples_and_rebuilds_itself(spec):
    torch.manual_seed(0)
    kind = {"mlp": MLP, "conv": Conv}[Autoencoder.backbone_for(spec)]
    build = BuildBackbone(kind, model_dim=16)
    model = Autoencoder(spec, {"label": TensorSpec.label(3)}, build, latent_dim=3)
    x = model.eval().sample(12, generator=generator(0))
    assert x.shape == (12, *spec.shape)
    model.prepare(Batch(x), generator(0))
    model.train()
    first = train(model, x, 1, 3e-3)
    assert train(model, x, 30, 3e-3) < first
    again = Autoencoder(spec, {}, build, latent_dim=3)
    again.load_state_dict(model.state_dict())
    again.eval()
    z = model.eval().encode(x)
    assert z.shape == (12, *model.latent_spec.shape)
    assert torch.equal(model.decode(z), again.decode(z))
    assert torch.equal(*(m.sample(5, generator=generator(1)) for m in (model, again)))
    with pytest.raises(RefusedPair, match="no condition 'label'"):
        model.sample(1, cond={"label": torch.zeros(1)}, generator=generator(0))


def test_only_training_moves_the_mixture():
    model = Autoencoder(TensorSpec.vector(4), {}, BuildBackbone(MLP, model_dim=8), latent_dim=2)
    before = model.mixture.second.clone()
    model.eval().loss(Batch(torch.ones(3, 4)), "all", generator(0))
    assert torch.equal(before, model.mixture.second)
    model.train().loss(Batch(torch.ones(3, 4)), "all", generator(0))
    assert not torch.equal(before, model.mixture.second)


def test_the_mixture_is_followed_in_full_precision_whatever_the_codes_are_in() -> None:
    z = randn((64, 3), generator(0)).bfloat16()
    half, full = LatentMixture(3, 2), LatentMixture(3, 2)
    for mixture in (half, full):
        mixture.start(z.float(), generator(1))
    full.follow(z.float())
    with torch.autocast("cpu", torch.bfloat16):
        half.follow(z)
    for name, value in full.state_dict().items():
        assert torch.equal(value, half.state_dict()[name])
