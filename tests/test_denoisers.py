"""Diffusion and flow matching: exact on Gaussian data before any training, and able to learn."""

from __future__ import annotations

import pytest
import torch

from morphogen.backbones.mlp import MLP
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.random import generator
from morphogen.core.spec import TensorSpec
from morphogen.families._gaussian_baseline import GaussianBaseline, shrunk
from morphogen.families.diffusion import Diffusion
from morphogen.families.flow_matching import FlowMatching

SPEC = TensorSpec.vector(3)
MEAN = torch.tensor([0.5, -1.0, 0.2])
COVARIANCE = torch.tensor([[1.0, 0.6, 0.0], [0.6, 0.8, 0.1], [0.0, 0.1, 0.3]])
FAMILIES = [
    (FlowMatching, {}),
    (Diffusion, {"target": "v"}),
    (Diffusion, {"target": "eps"}),
    (Diffusion, {"target": "x"}),
]


def gaussian_items(num: int) -> torch.Tensor:
    root = torch.linalg.cholesky(COVARIANCE)
    return MEAN + torch.randn(num, 3, generator=generator(0)) @ root.T


def build(family, **options):
    torch.manual_seed(0)
    return family(SPEC, {}, BuildBackbone(MLP, model_dim=16, num_layers=1), **options)


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_before_training_the_denoiser_is_the_wiener_filter(family, options) -> None:
    model = build(family, **options)
    model.prepare(Batch(gaussian_items(20_000)), generator(0))
    for parameter in model.network.parameters():
        torch.nn.init.zeros_(parameter)
    t = torch.tensor([0.2, 0.5, 0.8])
    x_t = torch.randn(3, 3, generator=generator(1))
    alpha, sigma = model.path.alpha(t), model.path.sigma(t)
    found = model.denoise(x_t, t)
    for i in range(3):
        noisy = alpha[i] ** 2 * COVARIANCE + sigma[i] ** 2 * torch.eye(3)
        gain = alpha[i] * COVARIANCE @ torch.linalg.inv(noisy)
        expected = MEAN + gain @ (x_t[i] - alpha[i] * MEAN)
        torch.testing.assert_close(found[i], expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(("family", "options"), FAMILIES[:2])
def test_before_training_samples_have_the_datas_mean_and_covariance(family, options) -> None:
    model = build(family, **options)
    model.prepare(Batch(gaussian_items(20_000)), generator(0))
    for parameter in model.network.parameters():
        torch.nn.init.zeros_(parameter)
    x = model.sample(20_000, generator=generator(2), num_steps=60)
    torch.testing.assert_close(x.mean(0), MEAN, atol=0.04, rtol=0)
    torch.testing.assert_close(x.T.cov(), COVARIANCE, atol=0.06, rtol=0)


def test_the_baseline_predicts_any_combination_of_data_and_noise() -> None:
    baseline = GaussianBaseline(3)
    baseline.fit(gaussian_items(5000))
    x_t, t = torch.randn(4, 3, generator=generator(3)), torch.tensor([0.1, 0.4, 0.7, 1.0])
    one, zero = torch.ones(4), torch.zeros(4)
    x = baseline(x_t, 1 - t, t, one, zero)
    eps = baseline(x_t, 1 - t, t, zero, one)
    torch.testing.assert_close((1 - t)[:, None] * x + t[:, None] * eps, x_t)
    torch.testing.assert_close(baseline(x_t, 1 - t, t, -one, one), eps - x)


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_sampling_goes_beyond_the_network_away_from_the_linear_answer(family, options) -> None:
    torch.manual_seed(0)
    model = build(family, **options)
    model.prepare(Batch(gaussian_items(5000)), generator(0))
    x_t, t = gaussian_items(20), torch.linspace(0.1, 0.9, 20)
    one, zero = torch.ones(20), torch.zeros(20)
    linear = model.baseline(x_t, model.path.alpha(t), model.path.sigma(t), one, zero)
    found = model.denoise(x_t, t)
    assert not torch.allclose(found, linear, atol=1e-2)
    for sharpness in (1.0, 1.5):
        model.sharpness = sharpness
        expected = linear + sharpness * (found - linear)
        torch.testing.assert_close(model.steer(x_t, t), expected, atol=1e-4, rtol=1e-4)
    for parameter in model.network.parameters():  # all that is left to say is linear
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(model.steer(x_t, t), model.denoise(x_t, t), atol=1e-4, rtol=1e-4)


def test_shrinkage_vanishes_with_many_items_and_is_total_with_none_to_speak_of() -> None:
    wide = torch.diag(torch.tensor([4.0, 1.0, 0.1]).double())
    torch.testing.assert_close(shrunk(wide, 10**7), wide, atol=1e-4, rtol=0)
    few = shrunk(wide, 2)
    assert few[0, 0] < 4.0
    assert few[2, 2] > 0.1
    torch.testing.assert_close(few.trace(), wide.trace())


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_training_beats_the_linear_denoiser_on_two_clusters(family, options) -> None:
    spec = TensorSpec.vector(1)
    torch.manual_seed(0)
    model = family(spec, {}, BuildBackbone(MLP, model_dim=32, num_layers=2), **options)
    signs = torch.randint(0, 2, (4000, 1), generator=generator(0)) * 2.0 - 1
    x = signs + 0.1 * torch.randn(4000, 1, generator=generator(1))
    model.prepare(Batch(x), generator(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(400):
        rows = torch.randint(0, 4000, (128,), generator=generator(step))
        loss = model.loss(Batch(x[rows]), "all", generator(1000 + step))[0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = model.sample(2000, generator=generator(5), num_steps=40)
    # A Gaussian of the data's variance has a third of its mass within 0.43 of 0; the data has none.
    assert (drawn.abs() < 0.43).float().mean() < 0.15
    # The noise as target says least of the data where sampling starts, so its halves are less even.
    tolerance = 0.3 if options.get("target") == "eps" else 0.12
    assert abs(float((drawn > 0).float().mean()) - 0.5) < tolerance


def test_large_items_do_without_the_baseline() -> None:
    wide = TensorSpec("real", (1, 80, 80))
    torch.manual_seed(0)
    model = FlowMatching(wide, {}, BuildBackbone(MLP, model_dim=4, num_layers=1))
    assert model.baseline is None
    assert FlowMatching(SPEC, {}, BuildBackbone(MLP, model_dim=4), baseline="none").baseline is None
