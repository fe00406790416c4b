"""The metrics against independent references, closed forms and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from morphogen.core import discover
from morphogen.core.errors import MeasurementError
from morphogen.core.metric import Features
from morphogen.core.random import generator, rand, randint, randn
from morphogen.metrics import _neighbours
from morphogen.metrics import kernel_distance as kernel_file
from morphogen.metrics._parts import shuffled
from morphogen.metrics.classifier_two_sample import classifier_two_sample
from morphogen.metrics.density_coverage import density_coverage
from morphogen.metrics.kernel_distance import kernel_distance, squared_mmd
from morphogen.metrics.precision_recall import precision_recall
from morphogen.metrics.vendi import vendi, vendi_score

METRICS = [precision_recall, density_coverage, kernel_distance, vendi, classifier_two_sample]


def pair(n: int, m: int, dim: int, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    """Two sets that overlap in part, correlated, `offset` from the origin."""
    mix = randn((dim, dim), generator(7)) / math.sqrt(dim)
    features = 0.8 * randn((n, dim), generator(0)) @ mix + 0.3
    return features + offset, randn((m, dim), generator(1)) @ mix + offset


# -- precision and recall, density and coverage ------------------------------------------------


def by_nearest_neighbours(features: Tensor, reference: Tensor, k: int) -> dict[str, float]:
    """The four by scikit-learn's neighbours and the definitions."""
    y, x = features.double().numpy(), reference.double().numpy()
    radii = [NearestNeighbors(n_neighbors=k + 1).fit(s).kneighbors(s)[0][:, -1] for s in (y, x)]
    between = np.linalg.norm(y[:, None] - x[None], axis=2)  # (N, M)
    return {
        "precision": float((between <= radii[1]).any(1).mean()),
        "recall": float((between <= radii[0][:, None]).any(0).mean()),
        "density": float((between <= radii[1]).sum() / (k * len(y))),
        "coverage": float((between <= radii[1]).any(0).mean()),
    }


def four(features: Tensor, reference: Tensor, k: int) -> dict[str, float]:
    found = precision_recall(Features(features, reference), num_neighbours=k)
    return {**found, **density_coverage(Features(features, reference), num_neighbours=k)}


@pytest.mark.parametrize(
    ("n", "m", "dim", "k", "offset"),
    [(120, 90, 3, 3, 0.0), (60, 80, 20, 5, 0.0), (50, 50, 2, 1, 0.0), (90, 90, 6, 4, 1000.0)],
)
def test_agrees_with_scikit_learn_and_with_prdc(
    n: int, m: int, dim: int, k: int, offset: float
) -> None:
    features, reference = pair(n, m, dim, offset)
    found = four(features, reference, k)
    assert found == pytest.approx(by_nearest_neighbours(features, reference, k), abs=1e-12)
    assert 0 < found["precision"] < 1
    assert 0 < found["recall"] < 1
    prdc = pytest.importorskip("prdc")
    theirs = prdc.compute_prdc(reference.double().numpy(), features.double().numpy(), k)
    assert found == pytest.approx({name: float(value) for name, value in theirs.items()}, abs=1e-12)


def test_ties_and_copies_are_exact() -> None:
    """On whole numbers distances tie all the time, and brute force has no rounding."""
    y, x = randint(3, (70, 4), generator(0)), randint(3, (50, 4), generator(1))
    k = 2

    def squares(a: Tensor, b: Tensor) -> Tensor:
        return (a[:, None] - b[None]).square().sum(2)

    own = [squares(s, s).fill_diagonal_(10**9).sort(1).values[:, k - 1] for s in (y, x)]
    between = squares(y, x)
    expected = {
        "precision": float((between <= own[1]).any(1).double().mean()),
        "recall": float((between <= own[0][:, None]).any(0).double().mean()),
        "density": int((between <= own[1]).sum()) / (k * len(y)),
        "coverage": float((between <= own[1]).any(0).double().mean()),
    }
    for scale, offset in ((1.0, 0.0), (0.1, 0.0), (0.3, 77.7)):
        moved = [scale * each.double() + offset for each in (y, x)]
        assert four(*moved, k) == pytest.approx(expected, abs=1e-12)


def test_more_copies_than_neighbours_have_balls_of_radius_zero() -> None:
    atoms = torch.tensor([[0.1, 0.7], [0.9, -0.3]]).repeat(6, 1) + 100
    assert precision_recall(Features(atoms, atoms.clone())) == {"precision": 1.0, "recall": 1.0}
    near = atoms + 1e-3
    assert precision_recall(Features(near, atoms)) == {"precision": 0.0, "recall": 0.0}


def test_in_blocks_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    features, reference = pair(61, 47, 5)
    whole, distance = four(features, reference, 3), kernel_distance(Features(features, reference))
    for values in (1, 200):
        monkeypatch.setattr(_neighbours, "BLOCK_VALUES", values)
        monkeypatch.setattr(kernel_file, "BLOCK_VALUES", values)
        assert four(features, reference, 3) == whole
        assert kernel_distance(Features(features, reference)) == pytest.approx(distance, rel=1e-9)


def test_neighbours_do_not_mind_rotation_shift_and_scale() -> None:
    features, reference = pair(80, 70, 6)
    turn = torch.linalg.qr(randn((6, 6), generator(3)).double()).Q
    moved = [3 * x.double() @ turn - 20 for x in (features, reference)]
    assert four(*moved, 3) == pytest.approx(four(features, reference, 3), abs=1e-12)


def test_two_draws_of_one_distribution_have_the_expected_density_and_coverage() -> None:
    """E density = 1, E coverage = 1 - (M-1)...(M-k) / ((M+N-1)...(M+N-k)), whatever it is."""
    n, m, k, repeats = 15, 20, 3, 400
    found = []
    for seed in range(repeats):
        x = rand((n + m, 2), generator(seed)) ** 3
        found.append(density_coverage(Features(x[:n], x[n:]), num_neighbours=k))
    expected = {
        "density": 1.0,
        "coverage": 1
        - math.prod(m - i for i in (1, 2, 3)) / math.prod(m + n - i for i in (1, 2, 3)),
    }
    for name, value in expected.items():
        each = np.array([scores[name] for scores in found])
        assert abs(each.mean() - value) < 4 * each.std() / math.sqrt(repeats), name


def test_missing_and_invented_kinds() -> None:
    """Data has two kinds. Half of them missing costs recall; an invented one costs precision."""

    def kind(at: float, seed: int) -> Tensor:
        return 0.1 * randn((60, 2), generator(seed)) + at

    data = torch.cat([kind(0, 0), kind(5, 1)])
    collapsed = precision_recall(Features(kind(0, 2), data))
    assert collapsed["precision"] > 0.9
    assert collapsed["recall"] < 0.55
    assert density_coverage(Features(kind(0, 2), data))["coverage"] < 0.55
    invented = precision_recall(Features(torch.cat([kind(0, 2), kind(5, 3), kind(-9, 4)]), data))
    assert invented["precision"] < 0.7
    assert invented["recall"] > 0.9


def test_an_outlier_of_the_reference_flatters_precision_and_not_density() -> None:
    data = torch.cat([0.1 * randn((80, 2), generator(0)), torch.tensor([[100.0, 0.0]])])
    around = 0.1 * randn((80, 2), generator(1)) + torch.tensor([60.0, 0.0])
    assert precision_recall(Features(around, data))["precision"] == 1
    assert density_coverage(Features(around, data))["density"] == pytest.approx(1 / 5)
    assert density_coverage(Features(around, data))["coverage"] == pytest.approx(1 / 81)


# -- kernel distance ---------------------------------------------------------------------------


def by_polynomial_kernel(features: Tensor, reference: Tensor) -> float:
    """The unbiased estimate from scikit-learn's kernel matrices (gamma = 1 / D, coef0 = 1)."""
    y, x = features.double().numpy(), reference.double().numpy()
    within = []
    for each in (y, x):
        k = polynomial_kernel(each, degree=3)
        within.append((k.sum() - np.trace(k)) / (len(each) * (len(each) - 1)))
    return float(sum(within) - 2 * polynomial_kernel(y, x, degree=3).mean())


@pytest.mark.parametrize(("n", "m", "dim"), [(80, 60, 5), (40, 40, 64), (2, 3, 1)])
def test_kernel_distance_agrees_with_scikit_learn(n: int, m: int, dim: int) -> None:
    features, reference = pair(n, m, dim)
    found = kernel_distance(Features(features, reference))["kernel_distance"]
    assert found == pytest.approx(by_polynomial_kernel(features, reference), rel=1e-9, abs=1e-12)


def expected_kernel(mu: Tensor, cov: Tensor, nu: Tensor, other: Tensor) -> float:
    """E (<x, y> / D + 1)^3 for independent x ~ N(mu, cov), y ~ N(nu, other), by moment tensors."""

    def moments(m: Tensor, c: Tensor) -> list[Tensor]:
        outer = torch.einsum
        second = c + outer("i,j->ij", m, m)
        third = outer("i,j,k->ijk", m, m, m)
        for letters in ("i,jk->ijk", "j,ik->ijk", "k,ij->ijk"):
            third = third + outer(letters, m, c)
        return [m, second, third]

    pairs = zip(moments(mu, cov), moments(nu, other), strict=True)
    powers = [float((a * b).sum()) / len(mu) ** degree for degree, (a, b) in enumerate(pairs, 1)]
    return 1 + 3 * powers[0] + 3 * powers[1] + powers[2]


@pytest.mark.parametrize("max_items", [10_000, 10])
def test_kernel_distance_of_gaussians_is_unbiased(max_items: int) -> None:
    """The mean of many estimates from few items is the closed form, in parts or not."""
    mu, nu = torch.tensor([0.5, -0.2]).double(), torch.tensor([0.0, 0.3]).double()
    factor = torch.tensor([[1.0, 0.0], [0.4, 0.8]]).double()
    cov, other = factor @ factor.T, 0.5 * torch.eye(2).double()
    exact = (
        expected_kernel(mu, cov, mu, cov)
        + expected_kernel(nu, other, nu, other)
        - 2 * expected_kernel(mu, cov, nu, other)
    )
    found = []
    for seed in range(300):
        draw = generator(seed)
        y = mu + randn((20, 2), draw).double() @ factor.T
        x = nu + randn((20, 2), draw).double() * math.sqrt(0.5)
        each = kernel_distance(Features(y, x), generator=draw, max_items=max_items)
        found.append(each["kernel_distance"])
    assert exact > 1
    assert abs(np.mean(found) - exact) < 4 * np.std(found) / math.sqrt(len(found))


def test_kernel_distance_in_parts_uses_every_item_once() -> None:
    features, reference = pair(31, 45, 3)
    found = kernel_distance(Features(features, reference), generator=generator(4), max_items=20)
    draw = generator(4)
    mixed = shuffled(features, draw), shuffled(reference, draw)
    parts = zip(*[x.tensor_split(3) for x in mixed], strict=True)
    assert found["kernel_distance"] == pytest.approx(sum(squared_mmd(*p) for p in parts) / 3)
    other = kernel_distance(Features(features, reference), generator=generator(5), max_items=20)
    assert other != found


def test_kernel_distance_of_few_against_many_keeps_two_items_in_a_part() -> None:
    features, reference = pair(5, 60, 3)
    found = kernel_distance(Features(features, reference), max_items=10)["kernel_distance"]
    assert math.isfinite(found)


@pytest.mark.parametrize("dim", [1, 5])
def test_shuffling_obeys_the_seed_and_not_the_order(dim: int) -> None:
    x = randn((40, dim), generator(0))
    mixed = x[rand((40,), generator(1)).argsort()]
    one, two = shuffled(x, generator(2)), shuffled(mixed, generator(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, x)
    assert not torch.equal(one, shuffled(x, generator(3)))
    assert torch.equal(one[:, 0].sort().values, x[:, 0].sort().values)


# -- Vendi score -------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "dim"), [(50, 4), (12, 40), (30, 30)])
def test_vendi_agrees_with_the_eigenvalues_of_the_whole_kernel(n: int, dim: int) -> None:
    x = randn((n, dim), generator(0)) + 0.2
    unit = x.double().numpy() / np.linalg.norm(x.double().numpy(), axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / n)
    values = values[values > 1e-15]
    expected = math.exp(-(values * np.log(values)).sum())
    assert vendi_score(x) == pytest.approx(expected, rel=1e-9)
    assert vendi_score(1e-30 * x) == pytest.approx(expected, rel=1e-6)


def test_vendi_counts_kinds() -> None:
    assert vendi_score(torch.eye(7)) == pytest.approx(7)
    assert vendi_score(torch.tensor([[1.0, 2.0]]).repeat(9, 1)) == pytest.approx(1)
    kinds = torch.eye(4)[torch.tensor([0, 0, 0, 1, 1, 2])]  # shares of 1/2, 1/3, 1/6
    entropy = -sum(p * math.log(p) for p in (1 / 2, 1 / 3, 1 / 6))
    assert vendi_score(kinds) == pytest.approx(math.exp(entropy))
    with_zeros = torch.cat([kinds[:3] * 5, torch.zeros(3, 4)])  # two kinds, half and half
    assert vendi_score(with_zeros) == pytest.approx(2)


def test_vendi_measures_equally_many_of_each() -> None:
    few, many = torch.eye(6)[:3], torch.eye(6)
    assert vendi(Features(few, many)) == pytest.approx({"vendi": 3, "vendi_reference": 3})
    same = randn((20, 4), generator(0))
    found = vendi(Features(same, same))
    assert found["vendi"] == found["vendi_reference"] == vendi_score(same)


# -- classifier two-sample test ----------------------------------------------------------------


def accuracy(features: Tensor, reference: Tensor, seed: int = 0) -> float:
    found = classifier_two_sample(Features(features, reference), generator=generator(seed))
    return float(found["classifier_two_sample"])


def test_nothing_to_tell_is_a_coin() -> None:
    n = 200
    found = accuracy(randn((n, 8), generator(0)), randn((n, 8), generator(1)))
    assert abs(found - 0.5) < 4 / (2 * math.sqrt(2 * n))
    # More features than items, where a classifier can learn its training items by heart.
    wide = accuracy(randn((50, 120), generator(2)), randn((50, 120), generator(3)))
    assert abs(wide - 0.5) < 4 / (2 * math.sqrt(100))


def test_shifted_gaussians_are_told_as_well_as_can_be() -> None:
    """The best classifier between N(0, I) and N(delta, I) is right with P = Phi(|delta| / 2)."""
    n = 400
    delta = torch.tensor([1.2, 0.0, -0.9])  # |delta| = 1.5
    best = 0.5 * (1 + math.erf(0.75 / math.sqrt(2)))
    found = accuracy(randn((n, 3), generator(0)) + delta, randn((n, 3), generator(1)))
    assert abs(found - best) < 4 * math.sqrt(best * (1 - best) / (2 * n))


def test_what_means_do_not_tell_covariances_and_shapes_do() -> None:
    n = 300
    z = randn((n, 2), generator(0))
    correlated = torch.stack([z[:, 0], 0.9 * z[:, 0] + 0.436 * z[:, 1]], dim=1)
    assert accuracy(correlated, randn((n, 2), generator(1))) > 0.7
    ring = z / z.norm(dim=1, keepdim=True) * math.sqrt(2)  # mean 0, covariance I, as the Gaussian
    assert accuracy(ring, randn((n, 2), generator(1))) > 0.7


def test_separated_sets_and_a_collapsed_model_are_told_apart() -> None:
    x = randn((40, 6), generator(0))
    assert accuracy(x + 20, x.flip(0)) == 1
    assert accuracy(torch.zeros(40, 6), x) > 0.95


def test_features_that_never_vary_do_not_disturb_the_classifier() -> None:
    features, reference = pair(60, 60, 3)
    still = torch.full((60, 2), 3.0)
    padded = [torch.cat([x, still], dim=1) for x in (features, reference)]
    assert abs(accuracy(*padded) - accuracy(features, reference)) < 0.15


def test_copies_of_the_reference_mislead_the_classifier() -> None:
    x = randn((80, 30), generator(0))
    for copies in (x.flip(0), x + 1e-3 * randn((80, 30), generator(1))):
        assert accuracy(copies, x) < 0.5 - 4 / (2 * math.sqrt(160))


def test_unequal_sets_are_thinned_so_that_a_coin_stays_a_half() -> None:
    found = accuracy(randn((40, 3), generator(0)), randn((400, 3), generator(1)))
    assert abs(found - 0.5) < 4 / (2 * math.sqrt(80))


# -- bad features ------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_bad_features_are_refused(metric) -> None:
    x, y = pair(30, 30, 4)
    bad = x.clone()
    bad[7, 2] = torch.inf
    with pytest.raises(MeasurementError, match="1 of 30"):
        metric(Features(bad, y))
    with pytest.raises(MeasurementError, match="held-out items are not finite"):
        metric(Features(x, bad))
    with pytest.raises(MeasurementError, match="equal D"):
        metric(Features(x, y[:, :3]))
    with pytest.raises(MeasurementError, match=r"too few (generated items|items of)"):
        metric(Features(x[:1], y[:1]))
    with pytest.raises(MeasurementError, match=r"do not vary[\s\S]*try: .*extractor"):
        metric(Features(x, torch.ones(30, 4)))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_a_model_that_collapsed_gets_its_score(metric) -> None:
    _, reference = pair(30, 30, 4)
    found = metric(Features(reference[:1].expand(30, 4), reference))
    assert all(math.isfinite(value) for value in found.values())


def test_more_neighbours_than_items_are_refused_with_the_most_there_are() -> None:
    x, y = pair(6, 30, 4)
    with pytest.raises(MeasurementError, match=r"items of features[\s\S]*num_neighbours=5"):
        precision_recall(Features(x, y), num_neighbours=6)
    assert precision_recall(Features(x, y), num_neighbours=5)["precision"] >= 0
    with pytest.raises(MeasurementError, match="items of reference"):
        density_coverage(Features(y, x), num_neighbours=6)
    with pytest.raises(MeasurementError, match="no neighbours"):
        precision_recall(Features(x, y), num_neighbours=0)


def test_options_that_cannot_be_are_refused() -> None:
    x, y = pair(20, 25, 3)
    with pytest.raises(MeasurementError, match="20 items of each set"):
        classifier_two_sample(Features(x, y), num_folds=21)
    with pytest.raises(MeasurementError, match=">= 20"):
        classifier_two_sample(Features(x[:19], y))
    with pytest.raises(MeasurementError, match="parts too small"):
        kernel_distance(Features(x, y), max_items=1)


def test_directions() -> None:
    directions = {}
    for metric in METRICS:
        assert discover.find("metric", metric.__name__) is metric
        directions.update(metric.higher_is_better)
    assert directions == {
        "precision": True,
        "recall": True,
        "density": None,
        "coverage": True,
        "kernel_distance": False,
        "vendi": None,
        "vendi_reference": None,
        "classifier_two_sample": False,
    }
