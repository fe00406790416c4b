"""The bounds hold on a model whose likelihood is known: probabilistic PCA."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from morphogen.backbones.conv import Conv
from morphogen.backbones.mlp import MLP
from morphogen.core.backbone import Backbone, BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.random import generator, randn
from morphogen.core.spec import ProductSpec, TensorSpec
from morphogen.families.vae import VAE, kl_to_standard_normal

SIGMA = 0.3
GRID = TensorSpec("real", (1, 8, 8), levels=17)
LABEL = {"label": TensorSpec.label(3)}


class Affine(Backbone):
    """One affine map: makes the VAE a linear-Gaussian model."""

    def __init__(self, in_spec, out_spec, cond_dim=0, causal=False):
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.map = nn.Linear(in_spec.num_values, out_spec.num_values)

    def forward(self, x, cond=None):
        return self.map(x.flatten(1)).unflatten(1, self.out_spec.shape)


def pca_model(skew: float = 0.0) -> tuple[VAE, torch.distributions.MultivariateNormal]:
    """x = W z + b + sigma eps with orthogonal columns in W, so that the posterior is diagonal:
    N(M^-1 W^T (x - b), sigma^2 M^-1), M = W^T W + sigma^2 I. `skew` moves q away from it."""
    build = BuildBackbone(Affine)
    model = VAE(TensorSpec.vector(5), {}, build, latent_dim=2, prior="normal")
    weight = torch.linalg.qr(randn((5, 2), generator(0)))[0] * torch.tensor([1.5, 0.7])
    bias = randn((5,), generator(1))
    model.likelihood.set_sigma(SIGMA)
    precision = weight.square().sum(0) + SIGMA**2  # M is diagonal
    to_mean = weight.T / precision[:, None]
    logvar = (SIGMA**2 / precision).log() + skew
    with torch.no_grad():
        model.decoder.map.weight.copy_(weight)
        model.decoder.map.bias.copy_(bias)
        model.encoder.map.weight.copy_(torch.cat([to_mean, torch.zeros(2, 5)]))
        raw = 10 * torch.atanh(logvar / 10)  # the model bounds log sigma^2 by 10 tanh(raw / 10)
        model.encoder.map.bias.copy_(torch.cat([-to_mean @ bias + 0.5 * skew, raw]))
    covariance = weight @ weight.T + SIGMA**2 * torch.eye(5)
    return model.eval(), torch.distributions.MultivariateNormal(bias, covariance)


def elbo(model: VAE, x: torch.Tensor, draws: int) -> torch.Tensor:
    many = x.repeat_interleave(draws, 0)
    bits, _ = model.loss(Batch(many), "all", generator(2))
    return (-bits * model.spec.num_values * math.log(2)).view(len(x), draws).mean(1)


def test_the_bound_is_tight_where_the_posterior_is_exact():
    model, exact = pca_model()
    x = exact.sample((6,))
    expected = exact.log_prob(x)
    # For an exact posterior every single importance weight is p(x).
    bound = model.log_prob(x, generator=generator(0), num_importance_samples=1)
    torch.testing.assert_close(bound, expected, atol=1e-4, rtol=1e-4)


def test_elbo_is_below_importance_weighted_is_below_exact():
    model, exact = pca_model(skew=0.8)
    x = exact.sample((6,))
    expected = exact.log_prob(x)
    lower = elbo(model, x, 20_000)
    seeds = range(40)
    tighter = torch.stack(
        [model.log_prob(x, generator=generator(s), num_importance_samples=16) for s in seeds]
    ).mean(0)
    tightest = model.log_prob(x, generator=generator(9), num_importance_samples=4_000)
    assert (lower < tighter - 0.02).all()
    assert (tighter < expected).all()
    torch.testing.assert_close(tightest, expected, atol=0.05, rtol=0)


def test_kl_agrees_with_monte_carlo():
    mu, logvar = torch.tensor([0.7, -1.2, 0.0]), torch.tensor([0.3, -1.5, 0.0])
    q = torch.distributions.Normal(mu, torch.exp(0.5 * logvar))
    z = mu + q.scale * randn((200_000, 3), generator(0))
    estimate = (q.log_prob(z) - torch.distributions.Normal(0.0, 1.0).log_prob(z)).mean(0)
    torch.testing.assert_close(kl_to_standard_normal(mu, logvar), estimate, atol=0.01, rtol=0)


def test_training_approaches_the_exact_likelihood_of_linear_data():
    _, exact = pca_model()
    x = exact.sample((512,))
    torch.manual_seed(0)
    model = VAE(TensorSpec.vector(5), {}, BuildBackbone(Affine), latent_dim=2, prior="normal")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    draw = generator(0)
    for _ in range(600):
        optimizer.zero_grad()
        model.loss(Batch(x), "all", draw)[0].mean().backward()
        optimizer.step()
    found = model.log_prob(x, generator=draw).mean()
    assert abs(found - exact.log_prob(x).mean()) < 0.1
    assert model.likelihood.log_sigma.exp().item() == pytest.approx(SIGMA, abs=0.03)


def test_the_estimated_divergence_is_the_known_one_on_average():
    """Before training the flow is the identity: both priors are N(0, I)."""
    build, x = BuildBackbone(MLP, model_dim=16), torch.rand(4, 1, 8, 8) * 2 - 1
    models = []
    for prior in ("flow", "normal"):
        torch.manual_seed(0)
        models.append(VAE(GRID, {}, build, latent_dim=4, prior=prior))
    many = Batch(x.repeat_interleave(5_000, 0))
    estimated, exact = (m.loss(many, "all", generator(0))[1]["kl"].view(4, -1) for m in models)
    torch.testing.assert_close(estimated.mean(1), exact.mean(1), atol=0.05, rtol=0.01)


def test_a_learned_prior_fits_codes_that_are_no_gaussian():
    """Items at two points: the fixed prior puts mass between them, the learned one does not."""
    spec, conditions = TensorSpec.vector(2), {}
    x = torch.where(torch.rand(512, 1, generator=generator(0)) < 0.5, -1.0, 1.0)
    x = x * torch.tensor([1.0, 0.7]) + 0.02 * randn((512, 2), generator(1))
    between = {}
    for prior in ("flow", "normal"):
        torch.manual_seed(0)
        build = BuildBackbone(MLP, model_dim=32)
        model = VAE(spec, conditions, build, latent_dim=2, prior=prior)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        draw = generator(2)
        for _ in range(400):
            optimizer.zero_grad()
            model.loss(Batch(x), "all", draw)[0].mean().backward()
            optimizer.step()
        drawn = model.eval().sample(1000, generator=draw)
        between[prior] = float((drawn[:, 0].abs() < 0.9).float().mean())
        again = model.decode(model.encode(x))
        assert (again - x).abs().mean() < 0.1  # encode and decode meet in the same latents
    assert between["flow"] < 0.5 * between["normal"], between


def test_a_flow_needs_two_latent_values():
    with pytest.raises(RecipeError, match="two values"):
        VAE(GRID, {}, BuildBackbone(MLP), latent_dim=1)


def test_parts_add_up_to_the_loss():
    torch.manual_seed(0)
    model = VAE(GRID, {}, BuildBackbone(Conv, model_dim=8), latent_dim=4, beta=0.5)
    loss, parts = model.loss(Batch(torch.rand(3, 1, 8, 8) * 2 - 1), "all", generator(0))
    nats = parts["reconstruction"] + 0.5 * parts["kl"]
    assert loss.shape == (3,)
    torch.testing.assert_close(loss, nats / (64 * math.log(2)))
    bound = (parts["reconstruction"] + parts["kl"]) / (64 * math.log(2))
    torch.testing.assert_close(parts["bits_per_dim"], bound)


def test_free_bits_leave_small_divergences_unpunished():
    torch.manual_seed(0)
    model = VAE(GRID, {}, BuildBackbone(MLP, model_dim=16), latent_dim=4, free_bits=50.0)
    loss, parts = model.loss(Batch(torch.zeros(2, 1, 8, 8)), "all", generator(0))
    torch.testing.assert_close(loss, (parts["reconstruction"] + 4 * 50.0) / (64 * math.log(2)))


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec.tokens(2, 3),
        ProductSpec({"one": TensorSpec.label(3), "two": TensorSpec.label(3)}),
    ],
    ids=["tokens", "parts"],
)
def test_tokens_are_drawn_as_often_as_their_likelihood_says(spec):
    """And not each at its most probable, which makes a text of nothing but spaces."""
    torch.manual_seed(0)
    model = VAE(spec, {}, BuildBackbone(MLP, model_dim=8, num_layers=1), latent_dim=2).eval()
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))  # every item there is
    items, draw = pairs, generator(0)
    drawn = model.sample(5000, generator=draw)
    if isinstance(spec, ProductSpec):
        items = {"one": pairs[:, 0], "two": pairs[:, 1]}
        drawn = torch.stack([drawn["one"], drawn["two"]], 1)
    known = model.log_prob(items, generator=draw, num_importance_samples=300).exp()
    found = torch.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=9) / len(drawn)
    torch.testing.assert_close(found, known, atol=0.02, rtol=0)
    assert known.max() < 0.5, "or the most probable item would do"


SPECS = [
    TensorSpec("real", (2, 12), levels=5, layout="sequence"),
    GRID,
    TensorSpec("real", (1, 4, 4, 6)),
    TensorSpec("real", (1, 7, 5), levels=2),
    TensorSpec.vector(6),
    TensorSpec.tokens(9, 4),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_any_spec_learns_samples_and_rebuilds_itself(spec):
    torch.manual_seed(0)
    kind = {"mlp": MLP, "conv": Conv}[VAE.backbone_for(spec)]
    build = BuildBackbone(kind, model_dim=16)
    model = VAE(spec, LABEL, build, latent_dim=3, num_importance_samples=4, cond_dim=8)
    draw = generator(0)
    x = model.sample(12, generator=draw)
    assert x.shape == (12, *spec.shape)
    label = torch.arange(12) % 3
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model.loss(Batch(x, cond={"label": label}), "all", draw)[0].mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < sum(losses[:10])
    assert all(p.grad is not None for p in model.parameters())
    again = VAE(spec, LABEL, build, latent_dim=3, num_importance_samples=4, cond_dim=8)
    again.load_state_dict(model.state_dict())
    z = model.eval().encode(x)
    assert torch.equal(z, again.eval().encode(x))
    assert torch.equal(model.decode(z), again.decode(z))
    given = {"label": label}
    first, second = (m.sample(12, cond=given, generator=generator(3)) for m in (model, again))
    assert torch.equal(first, second)
    log_p = model.log_prob(x, cond=given, generator=draw)
    assert log_p.shape == (12,)
    assert log_p.isfinite().all()


def test_the_condition_decides_what_is_drawn():
    """Class 0 is dark and class 1 is bright: samples follow."""
    torch.manual_seed(0)
    spec = TensorSpec("real", (1, 4, 4))
    conditions = {"label": TensorSpec.label(2)}
    model = VAE(spec, conditions, BuildBackbone(MLP, model_dim=32), latent_dim=2)
    label = torch.arange(64) % 2
    x = (label * 2 - 1).float().view(-1, 1, 1, 1) * 0.8 + 0.1 * randn((64, 1, 4, 4), generator(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    draw = generator(1)
    for _ in range(150):
        optimizer.zero_grad()
        model.loss(Batch(x, cond={"label": label}), "all", draw)[0].mean().backward()
        optimizer.step()
    for value, sign in ((0, -1), (1, 1)):
        cond = {"label": torch.full((32,), value)}
        drawn = model.eval().sample(32, cond=cond, generator=draw).mean((1, 2, 3))
        assert (drawn * sign > 0.4).float().mean() > 0.9
    with pytest.raises(RefusedPair, match="no condition 'lable'"):
        model.sample(1, cond={"lable": torch.zeros(1, dtype=torch.long)}, generator=draw)
