"""Likelihoods against closed forms and sums over all outcomes: denoisers and Boltzmann machines."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.backbones.mlp import MLP
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.capability import LOG_PROB_KINDS, log_prob_kind
from morphogen.core.errors import RecipeError
from morphogen.core.gaussian_path import GaussianPath
from morphogen.core.random import generator, randn
from morphogen.core.spec import TensorSpec
from morphogen.families import _path_likelihood
from morphogen.families._partition import log_partition
from morphogen.families._path_likelihood import PathLikelihood
from morphogen.families._rbm_layer import RBMLayer
from morphogen.families.diffusion import Diffusion
from morphogen.families.flow_matching import FlowMatching
from morphogen.families.rbm import RBM
from morphogen.testing.oracles import GaussianOracle

PATHS = [GaussianPath("straight"), GaussianPath("cosine")]
SMALL = BuildBackbone(MLP, model_dim=16, num_layers=1)
BITS = TensorSpec("real", (4,), levels=2, layout="vector")


def gaussian(dim: int, path: GaussianPath, spec: TensorSpec | None = None) -> GaussianOracle:
    """Correlated data whose variances along its axes run from 0.01 to 0.5."""
    draw = generator(dim)
    axes = torch.linalg.qr(torch.randn(dim, dim, generator=draw))[0]
    covariance = (axes * torch.logspace(-2, math.log10(0.5), dim)) @ axes.T
    return GaussianOracle(0.3 * torch.randn(dim, generator=draw), covariance, spec, path)


def rounded(spec: TensorSpec, deviation: float, num: int) -> tuple[Tensor, Tensor]:
    """Gaussian values rounded to levels, and the log probability of each item."""
    x = deviation * torch.randn(num, *spec.shape, generator=generator(0))
    x, half = spec.dequantise(spec.quantise(x)), 1 / (spec.levels - 1)
    law = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), deviation)
    above = torch.where(x > 1 - half, 1.0, law.cdf(x.double() + half))
    below = torch.where(x < half - 1, 0.0, law.cdf(x.double() - half))
    return x, (above - below).log().flatten(1).sum(1)


# -- the ODE and the bound, with the exact denoiser ----------------------------------------------


def likelihood_of(oracle: GaussianOracle, seed: int) -> PathLikelihood:
    return PathLikelihood(oracle.denoise, oracle.path, oracle.spec, generator(seed))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.kind)
@pytest.mark.parametrize("dim", [2, 5, 16])
def test_ode_gives_the_density_of_each_item(dim: int, path: GaussianPath) -> None:
    oracle = gaussian(dim, path)
    x = oracle.sample(40, generator=generator(1))
    exact = oracle.log_prob(x, generator=generator(0))
    found = likelihood_of(oracle, 2).ode(x, num_steps=20)
    assert (found - exact).abs().mean() < 0.01 * exact.abs().mean()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.kind)
@pytest.mark.parametrize("dim", [2, 16])
def test_variational_bound_is_tight_for_an_exact_denoiser(dim: int, path: GaussianPath) -> None:
    oracle = gaussian(dim, path)
    x = oracle.sample(50, generator=generator(1))
    exact = oracle.log_prob(x, generator=generator(0))
    many = x.repeat(800, 1)  # a mean over many draws of the noise
    found = likelihood_of(oracle, 2).bound(many, num_steps=32)
    error = found.view(800, -1).mean(1).std() / math.sqrt(800)
    assert error < 0.015 * exact.abs().mean()
    assert (found.mean() - exact.mean()).abs() < 0.01 * exact.abs().mean() + 2 * error


def test_stratified_levels_and_control_variate_leave_the_mean_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    oracle = gaussian(4, PATHS[0])
    x = oracle.sample(1, generator=generator(1)).expand(20_000, -1)

    def bound(num_steps: int) -> Tensor:
        return likelihood_of(oracle, 0).bound(x, num_steps)

    coarse, fine = bound(2), bound(16)
    monkeypatch.setattr(_path_likelihood, "TYPICAL_LOG_VARIANCE", -math.inf)  # no control variate
    plain = bound(16)
    for other in (coarse, plain):
        error = (other.var() / len(other) + fine.var() / len(fine)).sqrt()
        assert (other.mean() - fine.mean()).abs() < 4 * error
        assert fine.std() < other.std()


def test_hutchinson_estimates_the_trace_without_bias() -> None:
    oracle = gaussian(24, PATHS[0])  # beyond what is computed exactly
    x = oracle.sample(1, generator=generator(1)).expand(600, -1)
    exact = oracle.log_prob(x[:1], generator=generator(0))[0]

    def estimate(num_probes: int) -> Tensor:
        return likelihood_of(oracle, 3).ode(x, num_steps=6, num_probes=num_probes)

    one, eight = estimate(1), estimate(8)
    assert (one.mean() - exact).abs() < 4 * one.std() / math.sqrt(600) + 0.05
    torch.testing.assert_close(eight.std() * math.sqrt(8), one.std(), rtol=0.15, atol=0)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.kind)
@pytest.mark.parametrize("method", [PathLikelihood.ode, PathLikelihood.bound])
def test_with_levels_it_is_the_log_probability_of_the_levels(method, path: GaussianPath) -> None:
    spec = TensorSpec("real", (1, 4, 4), levels=256)
    oracle = GaussianOracle(torch.zeros(16), 0.0625 * torch.eye(16), spec, path)
    x, exact = rounded(spec, 0.25, 2000)
    found = method(likelihood_of(oracle, 1), x, num_steps=8)
    assert (found.mean() - exact.mean()).abs() < 0.01 * exact.mean().abs()


# -- the families --------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [FlowMatching, Diffusion])
def test_untrained_denoisers_have_the_likelihood_of_the_fitted_gaussian(family) -> None:
    torch.manual_seed(0)
    oracle, spec = gaussian(3, PATHS[0]), TensorSpec.vector(3)
    model = family(spec, {}, SMALL)
    model.prepare(Batch(oracle.sample(20_000, generator=generator(0))), generator(0))
    for parameter in model.network.parameters():
        torch.nn.init.zeros_(parameter)
    basis, variance = model.baseline.basis, model.baseline.variance
    fitted = torch.distributions.MultivariateNormal(
        model.baseline.mean, (basis * variance) @ basis.T
    )
    x = oracle.sample(200, generator=generator(1))
    found = model.log_prob(x, generator=generator(2))
    torch.testing.assert_close(found, fitted.log_prob(x), atol=0.02, rtol=0.01)
    assert torch.equal(found, model.log_prob(x, generator=generator(2)))


@pytest.mark.parametrize("family", [FlowMatching, Diffusion])
def test_trained_denoisers_are_below_the_log_probabilities_and_close(family) -> None:
    spec = TensorSpec("real", (2,), levels=3, layout="vector")
    table = spec.dequantise(torch.tensor(list(itertools.product(range(3), repeat=2))))
    p = torch.softmax(1.5 * torch.randn(9, generator=generator(3)), 0)
    torch.manual_seed(0)
    model = family(spec, {}, BuildBackbone(MLP, model_dim=32, num_layers=2))
    x = table[torch.multinomial(p, 4000, True, generator=generator(4))]
    model.prepare(Batch(x), generator(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for step in range(300):
        rows = torch.randint(0, 4000, (256,), generator=generator(step))
        loss = model.loss(Batch(x[rows]), "all", generator(1000 + step))[0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    many, entropy = table.repeat(50, 1), -(p * p.log()).sum()
    for method in ("ode", "bound"):
        found = model.log_prob(many, generator=generator(5), method=method).view(50, 9).mean(0)
        assert found.exp().sum() < 1.01
        assert -(p * found).sum() < entropy + 0.4
        assert -(p * found).sum() < math.log(9)  # better than knowing nothing


def test_conditions_reach_the_likelihood_and_batches_do_not_matter() -> None:
    spec, conditions = TensorSpec.vector(3), {"label": TensorSpec.label(2)}
    torch.manual_seed(0)
    model = FlowMatching(spec, conditions, SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    x, label = torch.randn(140, 3, generator=generator(0)), torch.arange(140) % 2

    def log_prob(rows: slice, label: Tensor, seed: int) -> Tensor:
        cond = {"label": label[rows]}
        return model.log_prob(x[rows], cond=cond, generator=generator(seed), num_steps=4)

    given = log_prob(slice(140), label, 1)
    assert not torch.allclose(given, log_prob(slice(140), 1 - label, 1), atol=1e-3)
    # The trace is exact for three values and nothing is dequantised: there is nothing to draw.
    torch.testing.assert_close(given[125:], log_prob(slice(125, 140), label, 9))


def test_what_a_likelihood_is_follows_the_data_and_the_method() -> None:
    torch.manual_seed(0)
    continuous = FlowMatching(TensorSpec.vector(3), {}, SMALL)
    levels = Diffusion(TensorSpec("real", (3,), levels=8, layout="vector"), {}, SMALL)
    assert log_prob_kind(continuous) == "estimate"
    assert log_prob_kind(levels) == "estimate of a lower bound"
    assert "dequantisation" in levels.log_prob_is
    assert log_prob_kind(RBM(BITS, {}, SMALL, num_hidden=2)) == "estimate"
    grey = TensorSpec("real", (4,), levels=256, layout="vector")
    assert log_prob_kind(RBM(grey, {}, SMALL, num_hidden=2)) == "up to a constant"
    assert log_prob_kind(RBM(grey, {}, SMALL, num_hidden=2, visible="gaussian")) == "estimate"
    for method in ("ode", "bound"):
        words = _path_likelihood.log_prob_is(method, levels.spec)
        assert words.partition(" (")[0] in LOG_PROB_KINDS


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    model = FlowMatching(TensorSpec.vector(3), {}, SMALL)
    with pytest.raises(RecipeError, match="Did you mean 'bound'"):
        model.log_prob(torch.zeros(1, 3), generator=generator(0), method="bond")  # type: ignore


# -- Boltzmann machines --------------------------------------------------------------------------


def random_layer(scale: float, num_hidden: int, **options) -> RBMLayer:
    layer, draw = RBMLayer(16, num_hidden, **options), generator(3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(scale * randn(parameter.shape, draw))
    return layer


def exact_partition(layer: RBMLayer) -> Tensor:
    """log Z_y by summing over all hidden states, the visible units in closed form."""
    num, found = layer.num_units, []
    h = torch.tensor(list(itertools.product([0.0, 1.0], repeat=len(layer.hidden_bias))))
    for y in range(max(layer.num_labels, 1)):
        bias, constant = layer.hidden_bias, torch.zeros(())
        if layer.num_labels:
            bias, constant = bias + layer.weight[num + y], layer.visible_bias[num + y]
        mean, base = h @ layer.weight[:num].T + layer.visible_bias[:num], layer.visible_bias[:num]
        if layer.gaussian:
            variance = layer.variance
            visible = 0.5 * ((mean.square() - base.square()) / variance).sum(1)
            visible = visible + 0.5 * (2 * math.pi * variance).log().sum()
        else:
            visible = F.softplus(mean).sum(1)
        found.append(torch.logsumexp((h @ bias + visible).double(), 0) + constant)
    return torch.stack(found).detach()


@pytest.mark.parametrize("num_labels", [0, 3])
@pytest.mark.parametrize(("gaussian", "scale"), [(False, 0.5), (False, 1.5), (True, 0.2)])
def test_annealed_importance_sampling_gives_log_z(gaussian, scale, num_labels) -> None:
    layer = random_layer(scale, 12, gaussian=gaussian, num_labels=num_labels)
    exact = exact_partition(layer)
    found = log_partition(layer, torch.full((16,), 0.4), generator(0), num_temperatures=500)
    assert (found.log_z - exact.logsumexp(0)).abs() < 0.01 * exact.logsumexp(0).abs()
    assert (found.log_z - exact.logsumexp(0)).abs() < 4 * found.standard_error
    assert ((found.per_class - exact).abs() < 5 * found.standard_error_per_class + 0.02).all()
    assert (found.per_class - exact).abs().max() < 0.01 * exact.abs().max()


def test_the_standard_error_is_the_spread_over_runs() -> None:
    layer = random_layer(1.0, 8)
    base = torch.full((16,), 0.5)
    runs = [log_partition(layer, base, generator(s), 50, 100) for s in range(30)]
    spread = torch.stack([run.log_z for run in runs]).std()
    stated = torch.stack([run.standard_error for run in runs]).mean()
    torch.testing.assert_close(spread, stated, rtol=0.4, atol=0)


@pytest.mark.parametrize("conditions", [{}, {"label": TensorSpec.label(3)}])
def test_rbm_probabilities_sum_to_one(conditions) -> None:
    model, draw = RBM(BITS, conditions, SMALL, num_hidden=5), generator(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(randn(parameter.shape, draw))
    states = 2 * torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))) - 1
    log_p = model.log_prob(states, generator=generator(0))
    assert abs(float(log_p.exp().sum()) - 1) < 0.01
    if conditions:
        for y in range(3):
            given = {"label": torch.full((16,), y)}
            log_p = model.log_prob(states, cond=given, generator=generator(0))
            assert abs(float(log_p.exp().sum()) - 1) < 0.03


def test_gaussian_units_that_hold_levels_count_the_levels() -> None:
    spec = TensorSpec("real", (2,), levels=9, layout="vector")
    model, draw = RBM(spec, {}, SMALL, num_hidden=3, visible="gaussian"), generator(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * randn(parameter.shape, draw))
        model.layer.log_variance.fill_(-9.0)  # narrower than a level: kept at its width
    assert math.isclose(float(model.layer.variance[0].detach()), 0.25**2, rel_tol=1e-5)
    levels = torch.arange(-40, 41) * 0.25  # beyond the range too: a Gaussian has no edges
    x = torch.cartesian_prod(levels, levels)
    log_p = model.log_prob(x, generator=generator(0))
    assert abs(float(log_p.exp().sum()) - 1) < 0.02


def test_log_z_is_estimated_once_and_again_when_the_weights_change() -> None:
    model = RBM(BITS, {}, SMALL, num_hidden=4)
    first = model.partition()
    assert model.partition() is first
    copy = RBM(BITS, {}, SMALL, num_hidden=4)
    copy.load_state_dict(model.state_dict())
    assert torch.equal(copy.partition().log_z, first.log_z)
    with torch.no_grad():
        model.layer.visible_bias.add_(1.0)
    # With hardly any weights: sum of log(1 + e^a) over the units, and log 2 for each hidden one.
    expected = 4 * math.log1p(math.e) + 4 * math.log(2)
    assert abs(float(model.partition().log_z) - expected) < 0.05


def test_items_share_the_error_of_log_z_as_far_as_they_share_it() -> None:
    model = RBM(BITS, {"label": TensorSpec.label(3)}, SMALL, num_hidden=4)
    with torch.no_grad():
        model.layer.weight.normal_(std=0.5, generator=generator(3))
    errors = model.partition().standard_error_per_class
    assert model.log_prob_error() == pytest.approx(float(model.partition().standard_error))
    one = {"label": torch.tensor([2, 2])}
    assert model.log_prob_error(one) == pytest.approx(float(errors[2]))
    two = {"label": torch.tensor([0, 2])}
    assert model.log_prob_error(two) == pytest.approx(float((errors[[0, 2]] / 2).norm()))


def test_rbm_likelihood_of_continuous_data_is_a_mixture_of_normals() -> None:
    model, draw = RBM(TensorSpec.vector(3), {}, SMALL, num_hidden=4), generator(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * randn(parameter.shape, draw))
    h = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    layer = model.layer
    mean, deviation = layer.visible_mean(h), layer.variance.sqrt()
    weight = h @ layer.hidden_bias + 0.5 * (
        (mean.square() - layer.visible_bias.square()) / layer.variance
    ).sum(1)
    x = torch.randn(20, 3, generator=generator(1))
    each = torch.distributions.Normal(mean, deviation).log_prob(x[:, None]).sum(2)
    exact = torch.logsumexp(weight.log_softmax(0) + each, 1).detach()
    found = model.log_prob(x, generator=generator(0))
    assert (found - exact).abs().max() < 0.01 * exact.abs().mean()
