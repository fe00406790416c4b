"""Each likelihood is a distribution: it sums to one, and its draws and mean agree with it."""

from __future__ import annotations

import math

import pytest
import torch

from morphogen.core.errors import RecipeError
from morphogen.core.likelihood import (
    Bernoulli,
    Categorical,
    DiscretisedLogistic,
    Gaussian,
    Laplace,
    bits_per_dim,
    build_likelihood,
)
from morphogen.core.random import generator, randn
from morphogen.core.spec import TensorSpec

CONTINUOUS = TensorSpec("real", (2, 3))
TWO = TensorSpec("real", (2, 3), levels=2)
TEXT = TensorSpec.tokens(4, 5)


def grid(levels: int, shape: tuple[int, ...] = (2, 3)) -> TensorSpec:
    return TensorSpec("real", shape, levels=levels)


def params_of(likelihood, batch=1, scale=1.0, seed=0):
    shape = (batch, *likelihood.param_spec.shape)
    return scale * randn(shape, generator(seed))


def every_value(spec: TensorSpec) -> torch.Tensor:
    """The values that one entry of an item can take: (N,)."""
    if spec.kind == "token":
        return torch.arange(spec.vocab_size)
    return spec.dequantise(torch.arange(spec.levels))


def table(likelihood, params) -> torch.Tensor:
    """P(x = v) for every value v: (N, *shape), for one item's params (1, ...)."""
    values = every_value(likelihood.spec)
    x = values.view(-1, *(1,) * len(likelihood.spec.shape)).expand(-1, *likelihood.spec.shape)
    params = params.expand(len(values), *params.shape[1:])
    return likelihood.log_prob(params, x).exp()


DISCRETE = [
    Bernoulli(TWO),
    Bernoulli(TensorSpec.tokens(4, 2)),
    Categorical(TEXT),
    Categorical(TensorSpec.label(3)),
    *(DiscretisedLogistic(grid(levels)) for levels in (2, 3, 17, 256)),
]
named = [f"{type(each).__name__}-{each.spec}" for each in DISCRETE]


@pytest.mark.parametrize("likelihood", DISCRETE, ids=named)
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_probabilities_sum_to_one(likelihood, scale):
    total = table(likelihood, params_of(likelihood, scale=scale)).sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-4, rtol=0)


@pytest.mark.parametrize("likelihood", DISCRETE[:7], ids=named[:7])
def test_frequencies_of_draws_match_the_probabilities(likelihood):
    params = params_of(likelihood, seed=1)
    expected = table(likelihood, params)  # (N, *shape)
    draws = likelihood.sample(params.expand(20_000, *params.shape[1:]), generator(2))
    values = every_value(likelihood.spec)
    for value, probability in zip(values, expected, strict=True):
        found = torch.isclose(draws.double(), value.double()).double().mean(0)
        torch.testing.assert_close(found, probability.double(), atol=0.015, rtol=0)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_mean_of_the_logistic_mixture_is_the_expectation(levels, scale):
    likelihood = DiscretisedLogistic(grid(levels))
    params = params_of(likelihood, scale=scale, seed=3)
    values = every_value(likelihood.spec).view(-1, 1, 1)
    expected = (values * table(likelihood, params)).sum(0)
    # Exact up to the rounding to levels.
    atol = 0.5 * likelihood.width
    torch.testing.assert_close(likelihood.mean(params)[0], expected, atol=atol, rtol=0)


def test_means_of_the_others_are_expectations():
    binary = Bernoulli(TWO)
    params = params_of(binary)
    expected = (every_value(TWO).view(-1, 1, 1) * table(binary, params)).sum(0)
    torch.testing.assert_close(binary.mean(params)[0], expected)
    categorical = Categorical(TEXT)
    params = params_of(categorical)
    assert torch.equal(categorical.mean(params)[0], table(categorical, params).argmax(0))
    gaussian = Gaussian(CONTINUOUS)
    params = params_of(gaussian)
    draws = gaussian.sample(params.expand(20_000, 2, 3), generator(0))
    torch.testing.assert_close(gaussian.mean(params)[0], draws.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(draws.std(0), torch.full((2, 3), math.exp(-1)), atol=0.01, rtol=0)


def test_gaussian_integrates_to_one():
    likelihood = Gaussian(TensorSpec.vector(1))
    x = torch.linspace(-8, 8, 20_001)[:, None]
    density = likelihood.log_prob(torch.full_like(x, 0.3), x).exp()
    assert torch.trapezoid(density[:, 0], x[:, 0]).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("sigma", [1e-4, 0.01, 0.05])
@pytest.mark.parametrize("mu", [0.0, 0.004, -1.0])
def test_gaussian_on_levels_never_sums_to_more_than_one(sigma, mu):
    """However sharp: otherwise data of one grey would score fewer than 0 bits."""
    likelihood = Gaussian(grid(256, (1, 1)))
    likelihood.set_sigma(sigma)
    total = table(likelihood, torch.full((1, 1, 1), mu)).sum()
    assert total <= 1 + 1e-5
    if mu > -1:
        assert total >= 1 - 1e-5


def test_laplace_integrates_to_one_and_its_draws_agree():
    likelihood = Laplace(TensorSpec.vector(1))
    x = torch.linspace(-12, 12, 20_001)[:, None]
    density = likelihood.log_prob(torch.full_like(x, 0.3), x).exp()
    assert torch.trapezoid(density[:, 0], x[:, 0]).item() == pytest.approx(1, abs=1e-4)
    draws = likelihood.sample(torch.full((40_000, 1), 0.3), generator(0))
    b = likelihood.log_sigma.exp().item()
    assert (draws - 0.3).abs().mean().item() == pytest.approx(b, rel=0.02)
    assert draws.median().item() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("b", [1e-4, 0.01, 0.05])
@pytest.mark.parametrize("steps", [100, 100.5, 100.25, 0])
def test_laplace_on_levels_never_sums_to_more_than_one(b, steps):
    """One where a level is told, less between two."""
    likelihood = Laplace(grid(256, (1, 1)))
    likelihood.set_sigma(b)
    total = table(likelihood, torch.full((1, 1, 1), -1 + 2 * steps / 255)).sum().item()
    assert total <= 1 + 1e-5
    if steps == 100:
        assert total == pytest.approx(1, abs=1e-4)


def test_gaussian_and_discretised_logistic_are_on_one_scale():
    """A logistic and a Gaussian of one variance differ by less than 0.05 nats of cross-entropy."""
    spec = grid(256, (1, 1))
    gaussian, logistic = Gaussian(spec), DiscretisedLogistic(spec)
    sigma = 0.1
    gaussian.set_sigma(sigma)
    # All components at mean 0 with variance (pi s)^2 / 3 = sigma^2.
    log_s = math.log(sigma * math.sqrt(3) / math.pi)
    floor = math.log(logistic.width / 10)
    raw = math.log(math.expm1(log_s - floor)) + 2 + floor
    count = logistic.num_components
    params = torch.cat([torch.zeros(count), -logistic.centres, torch.full((count,), raw)])
    p_gaussian = table(gaussian, torch.zeros(1, 1, 1)).flatten()
    p_logistic = table(logistic, params.view(1, -1, 1)).flatten()
    assert p_logistic.sum().item() == pytest.approx(1, abs=1e-4)
    divergence = (p_gaussian * (p_gaussian / p_logistic).log()).sum().item()
    assert 0 < divergence < 0.05
    bits = bits_per_dim((p_gaussian * p_gaussian.log()).sum(), spec).item()
    differential = math.log2(sigma / likelihood_width(spec) * math.sqrt(2 * math.pi * math.e))
    assert bits == pytest.approx(differential, abs=1e-3)


def likelihood_width(spec: TensorSpec) -> float:
    return 2 / (spec.levels - 1)


EVERY = [*DISCRETE, DiscretisedLogistic(grid(65536)), Gaussian(CONTINUOUS), Gaussian(grid(256))]


@pytest.mark.parametrize("likelihood", EVERY, ids=lambda each: f"{type(each).__name__}")
@pytest.mark.parametrize("scale", [0.0, 30.0, 1000.0])
def test_extreme_parameters_keep_values_and_gradients_finite(likelihood, scale):
    params = params_of(likelihood, batch=8, scale=scale).requires_grad_()
    x = likelihood.sample(params_of(likelihood, batch=8, seed=5), generator(6))
    log_prob = likelihood.log_prob(params, x)
    assert log_prob.shape == x.shape
    assert log_prob.isfinite().all()
    log_prob.sum().backward()
    assert params.grad.isfinite().all()
    assert likelihood.mean(params).isfinite().all()
    assert likelihood.mean(params).shape == x.shape
    assert likelihood.sample(params, generator(0)).shape == x.shape


def test_no_parameter_of_the_logistic_mixture_loses_its_gradient_when_sharp():
    likelihood = DiscretisedLogistic(grid(256, (1, 1)))
    params = torch.zeros(1, 15, 1)
    params[:, 10:] = -8.0  # scales far below the floor
    params.requires_grad_()
    likelihood.log_prob(params, torch.zeros(1, 1, 1)).sum().backward()
    assert params.grad[:, 10:].abs().max() > 0


def test_draws_are_values_the_data_can_take():
    spec = grid(17)
    likelihood = DiscretisedLogistic(spec)
    x = likelihood.sample(params_of(likelihood, batch=50, scale=3), generator(0))
    torch.testing.assert_close(spec.dequantise(spec.quantise(x)), x)


def test_masked_values_do_not_count():
    likelihood = Categorical(TEXT)
    params, x = params_of(likelihood, batch=2), torch.tensor([[0, 1, 2, 3], [4, 0, 0, 0]])
    mask = torch.tensor([[True] * 4, [True, False, False, False]])
    log_prob = likelihood.log_prob(params, x)
    expected = torch.stack([log_prob[0].sum(), log_prob[1, 0]])
    torch.testing.assert_close(likelihood.item_log_prob(params, x, mask), expected)


def test_auto_follows_the_kind_of_data():
    assert isinstance(build_likelihood(TEXT), Categorical)
    assert isinstance(build_likelihood(TWO), Bernoulli)
    assert isinstance(build_likelihood(grid(256)), DiscretisedLogistic)
    assert isinstance(build_likelihood(CONTINUOUS), Gaussian)
    with pytest.raises(RecipeError, match="Did you mean 'gaussian'"):
        build_likelihood(TEXT, "gausian")
    with pytest.raises(RecipeError, match="levels"):
        build_likelihood(CONTINUOUS, "discretised_logistic")
    for spec, name in [(TEXT, "gaussian"), (TEXT, "bernoulli"), (CONTINUOUS, "categorical")]:
        with pytest.raises(RecipeError, match="does not fit the data"):
            build_likelihood(spec, name)
    assert isinstance(build_likelihood(TensorSpec.tokens(3, 2), "bernoulli"), Bernoulli)
