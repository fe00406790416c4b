"""The oracles are right: held to torch.distributions and to sums over all outcomes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from morphogen.core.batch import Batch
from morphogen.core.gaussian_path import GaussianPath
from morphogen.core.random import generator
from morphogen.core.spec import TensorSpec
from morphogen.tasks.classify import classify
from morphogen.tasks.vary import vary
from morphogen.testing._models import check_capabilities
from morphogen.testing.oracles import GaussianOracle, TwoGaussians, TwoStateChain, TwoTones

GRID = TensorSpec("real", (1, 4, 4))
ORACLES = [
    GaussianOracle.example(),
    GaussianOracle.example(GRID),
    TwoGaussians(),
    TwoTones(),
    TwoStateChain(),
]


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda o: f"{type(o).__name__} {o.spec}")
def test_oracles_keep_the_promises_of_models(oracle: GaussianOracle) -> None:
    check_capabilities(oracle, Batch(oracle.sample(6, generator=generator(0))), str(oracle.spec))


def test_gaussian_likelihood() -> None:
    oracle = GaussianOracle.example(GRID)
    x = oracle.sample(5, generator=generator(0))
    exact = MultivariateNormal(oracle.mean, oracle.covariance).log_prob(x.flatten(1))
    assert torch.allclose(oracle.log_prob(x, generator=generator(0)), exact, atol=1e-3)


def test_gaussian_samples_and_latents() -> None:
    oracle = GaussianOracle.example()
    x = oracle.sample(20_000, generator=generator(0))
    assert torch.allclose(x.mean(0), oracle.mean, atol=0.01)
    assert torch.allclose(torch.cov(x.T), oracle.covariance, atol=0.01)
    z = oracle.encode(x)
    assert torch.allclose(torch.cov(z.T), torch.eye(3), atol=0.05)
    assert torch.allclose(oracle.decode(z), x, atol=1e-5)


@pytest.mark.parametrize("kind", ["straight", "cosine"])
def test_gaussian_denoiser_is_the_regression_on_x_t(kind: str) -> None:
    """E[x | x_t] is the linear least-squares fit of x on x_t, which samples give."""
    oracle = GaussianOracle.example()
    oracle.path = GaussianPath(kind)  # type: ignore[arg-type]
    x = oracle.sample(100_000, generator=generator(0))
    t = torch.tensor(0.3)
    x_t = oracle.path.noised(x, torch.randn(x.shape, generator=generator(1)), t)
    design = torch.cat([x_t, torch.ones(len(x), 1)], dim=1)
    fit = design @ torch.linalg.lstsq(design, x).solution
    exact = oracle.denoise(x_t, t.expand(len(x)))
    assert float((fit - exact).square().mean().sqrt()) < 0.003


def test_transport_is_invertible_and_whitens() -> None:
    oracle = GaussianOracle.example().double()
    noise = torch.randn((20_000, 3), generator=generator(0), dtype=torch.float64)
    x = oracle.transport(noise)
    assert torch.allclose(torch.cov(x.T), oracle.covariance, atol=0.01)
    assert torch.allclose(oracle.transport(x, 0.0, 1.0), noise, atol=1e-4)
    half_way = oracle.transport(noise, 1.0, 0.4)
    assert torch.allclose(oracle.transport(half_way, 0.4, 0.0), x, atol=1e-4)


def test_gaussian_fill_is_the_conditional() -> None:
    oracle = GaussianOracle.example()
    x = oracle.sample(1, generator=generator(1)).expand(4000, -1)
    known = torch.tensor([False, True, False])
    filled = oracle.fill(x, known, generator=generator(2))
    # From the precision matrix, another formula for the same conditional.
    precision = torch.linalg.inv(oracle.covariance)[~known][:, ~known]
    assert torch.equal(filled[:, 1], x[:, 1])
    assert torch.allclose(torch.cov(filled[:, ~known].T), precision.inverse(), atol=0.004)
    mean, _ = oracle.conditional(x[0], known)
    assert torch.allclose(filled[:, ~known].mean(0), mean, atol=0.01)


def test_two_gaussians_classify_by_bayes_rule() -> None:
    oracle = TwoGaussians()
    x = oracle.sample(200, generator=generator(0))
    draw = generator(0)
    per_class = [
        oracle.log_prob(x, cond={"label": torch.full((200,), y)}, generator=draw) for y in (0, 1)
    ]
    joint = torch.stack(per_class, dim=1) - torch.log(torch.tensor(2.0))
    assert torch.allclose(oracle.predict(x), joint.softmax(1), atol=1e-5)
    assert torch.allclose(oracle.log_prob(x, generator=draw), joint.logsumexp(1), atol=1e-4)


def test_chain_sums_to_one_and_samples_by_its_probabilities() -> None:
    oracle = TwoStateChain(length=4)
    table = torch.tensor(list(itertools.product((0, 1), repeat=4)))
    p = oracle.log_prob(table, generator=generator(0)).exp()
    assert float(p.sum()) == pytest.approx(1)
    n = 20_000
    x = oracle.sample(n, generator=generator(0))
    counts = torch.bincount((x * torch.tensor([8, 4, 2, 1])).sum(1), minlength=16) / n
    assert ((counts - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()


def test_chain_fill_is_the_conditional() -> None:
    """First and last token known: the frequencies of the middle are Bayes' rule's."""
    oracle = TwoStateChain(length=4)
    known = torch.tensor([True, False, False, True])
    x = torch.tensor([0, 0, 0, 1]).expand(20_000, 4)
    filled = oracle.fill(x, known, generator=generator(0))
    middle = torch.tensor(list(itertools.product((0, 1), repeat=2)))
    paths = torch.cat([torch.zeros(4, 1).long(), middle, torch.ones(4, 1).long()], dim=1)
    p = oracle.log_prob(paths, generator=generator(0)).softmax(0)
    counts = torch.bincount((filled[:, 1:3] * torch.tensor([2, 1])).sum(1), minlength=4) / 20_000
    assert ((counts - p).abs() < 5 * (p * (1 - p) / 20_000).sqrt()).all()
    assert torch.equal(filled[:, [0, 3]], x[:, [0, 3]])


def test_tones_are_told_by_name_and_stay_what_they_are() -> None:
    oracle = TwoTones()
    x = oracle.sample(20, generator=generator(0))
    found = classify(oracle, x, classes=["low", "high"], generator=generator(0))
    assert found.route == "texts"
    sure = 1 / (1 + math.exp(-oracle.text_scale))
    assert [max(row) for row in found.values["probs"]] == pytest.approx([sure] * 20, abs=1e-5)
    heard = oracle.transcribe(list(x[:, 0]), generator=generator(0))
    assert [each.text for each in heard] == found.values["class"]
    assert len({*found.values["class"]}) == 2
    varied = vary(oracle, x, strength=1.0, num=2, generator=generator(1))
    before = oracle.features(x).repeat_interleave(3, 0)
    assert torch.allclose(oracle.features(varied.x), before, atol=1e-5)
    assert not torch.allclose(varied.x[1::3], x, atol=0.1)
