"""Tasks against closed forms: Gaussian data, whose denoiser, density and latents are exact."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.batch import Batch
from morphogen.core.capability import needs, why_not
from morphogen.core.encoded import each, equal, rows
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.gaussian_path import DenoiserSampling, GaussianPath
from morphogen.core.random import generator, randn
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.schema import options
from morphogen.core.spec import ProductSpec, Run, TensorSpec
from morphogen.tasks._latents import mix, slerp
from morphogen.tasks._path import from_noise, to_noise
from morphogen.tasks._regions import known_region
from morphogen.tasks.anomaly import anomaly
from morphogen.tasks.classify import classify
from morphogen.tasks.denoise import denoise, noise_level
from morphogen.tasks.embed import embed, principal
from morphogen.tasks.fill import fill
from morphogen.tasks.generate import generate
from morphogen.tasks.interpolate import interpolate
from morphogen.tasks.reconstruct import reconstruct
from morphogen.tasks.super_resolve import pool, super_resolve
from morphogen.tasks.traverse import traverse
from morphogen.tasks.vary import vary
from morphogen.testing._promises import draw_data

SPEC = TensorSpec("real", (1, 4, 4))


class GaussianData:
    """x ~ N(mu_y, S): smooth fields on a 4 x 4 grid; labels shift the mean."""

    def __init__(self, num_classes: int = 0) -> None:
        self.spec = SPEC
        place = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
        distance = torch.cdist(place, place)
        self.cov = 0.3**2 * torch.exp(-distance.square() / 8) + 0.03**2 * torch.eye(16)
        self.cov = self.cov.double()
        self.eigenvalues, self.eigenvectors = torch.linalg.eigh(self.cov)
        self.conditions = {"label": TensorSpec.label(num_classes)} if num_classes else {}
        self.means = torch.zeros(max(num_classes, 1), 16, dtype=torch.float64)
        for label in range(num_classes):
            self.means[label] = 0.25 * math.cos(label * 2) + 0.1 * place[:, label % 2].double()

    def mean(self, cond: Mapping[str, Tensor] | None, num: int) -> Tensor:
        labels = (cond or {}).get("label", torch.zeros(num, dtype=torch.long))
        return self.means[labels]

    def draw(self, num: int, seed: int, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        root = torch.linalg.cholesky(self.cov)
        x = self.mean(cond, num) + randn((num, 16), generator(seed)).double() @ root.T
        return x.view(num, *SPEC.shape)


class Denoises(GaussianData):
    """The exact E[x | x_t], and nothing else."""

    path = GaussianPath("straight")

    def denoise(self, x_t: Tensor, t: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        mu = self.mean(cond, len(x_t))
        alpha, sigma = self.path.alpha(t.double())[:, None], self.path.sigma(t.double())[:, None]
        values, vectors = self.eigenvalues, self.eigenvectors
        gain = alpha * values / (alpha**2 * values + sigma**2)
        residual = (x_t.double().flatten(1) - alpha * mu) @ vectors
        return (mu + (gain * residual) @ vectors.T).view_as(x_t)


class Samples(Denoises, DenoiserSampling):
    """The same with the sampler, filling and integration of the core."""


class HasDensity(GaussianData):
    """The exact log p(x | y), and energy."""

    log_prob_is = "exact"

    def log_prob(self, x: Tensor, *, cond: Any = None, generator: torch.Generator) -> Tensor:
        law = torch.distributions.MultivariateNormal(torch.zeros(16).double(), self.cov)
        return law.log_prob(x.double().flatten(1) - self.mean(cond, len(x)))


class Fills(GaussianData):
    """The exact conditional draw."""

    def fill(self, x: Tensor, known: Tensor, *, cond: Any = None, generator: Any) -> Tensor:
        filled = x.double().flatten(1).clone()
        for row, keep in zip(filled, known.flatten(1), strict=True):
            mean, cov = conditional(self.cov, row, keep)
            noise = randn((len(mean),), generator).double()
            row[~keep] = mean + torch.linalg.cholesky(cov) @ noise
        return filled.view_as(x)


class Encodes(GaussianData):
    """The linear autoencoder of the first k principal directions."""

    def __init__(self, latent_dim: int = 6) -> None:
        super().__init__()
        self.latent_spec = TensorSpec.vector(latent_dim)
        self.basis = self.eigenvectors[:, -latent_dim:]

    def encode(self, x: Tensor) -> Tensor:
        return x.double().flatten(1) @ self.basis

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.basis.T).view(-1, *SPEC.shape)


class EncodesGaussian(Encodes):
    latent_prior = "gaussian"


class Predicts:
    """A classifier with known probabilities."""

    target, target_spec = "label", TensorSpec.label(2)

    def predict(self, x: Tensor) -> Tensor:
        p = torch.sigmoid(x.flatten(1).sum(1))
        return torch.stack([1 - p, p], dim=1)


def conditional(cov: Tensor, x: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x[~keep] given x[keep], zero mean."""
    gain = cov[~keep][:, keep] @ torch.linalg.inv(cov[keep][:, keep])
    return gain @ x[keep], cov[~keep][:, ~keep] - gain @ cov[keep][:, ~keep]


# -- the axis ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", discover.names("task"))
def test_every_task_states_what_it_needs_and_comments_its_options(name: str) -> None:
    task = discover.find("task", name)
    assert needs(task)
    assert all(option.comment for option in options(task).values())
    assert {"cond"} <= options(task).keys()
    assert why_not(object(), task)


def test_routes_are_preferred_forced_and_refused() -> None:
    x = GaussianData().draw(2, 0)
    model = type("Both", (Encodes, Denoises), {})()
    assert reconstruct(model, x, generator=generator(0)).route == "reconstruct"
    assert reconstruct(model, x, generator=generator(0), route="denoise").route == "denoise"
    with pytest.raises(RefusedPair, match="encode"):
        reconstruct(Denoises(), x, generator=generator(0), route="reconstruct")
    with pytest.raises(RecipeError, match="Did you mean 'denoise'"):
        reconstruct(model, x, generator=generator(0), route="denoize")  # type: ignore[arg-type]


# -- generate ------------------------------------------------------------------------------------


def test_generate_draws_the_distribution_in_chunks() -> None:
    model = Samples()
    result = generate(model, num=600, num_steps=30, generator=generator(0))
    assert result.x is not None
    sample = result.x.double().flatten(1)
    assert len(sample) == 600
    assert torch.allclose(sample.T.cov(), model.cov, atol=0.02)


def test_generate_refuses_options_that_the_model_does_not_take() -> None:
    with pytest.raises(RecipeError, match="num_steps, sampler"):
        generate(Samples(), temperature=0.5, generator=generator(0))
    with pytest.raises(RecipeError, match="nothing to draw"):
        generate(Samples(), num=0, generator=generator(0))


def test_guidance_exaggerates_what_the_label_changes() -> None:
    model = Samples(num_classes=2)
    cond = {"label": torch.ones(200, dtype=torch.long)}
    draws = {
        scale: generate(model, num=200, cond=cond, guidance=scale, generator=generator(0))
        for scale in (1.0, 2.0)
    }
    plain, guided = (draws[scale].x.double().flatten(1).mean(0) for scale in (1.0, 2.0))  # type: ignore
    direction = model.means[1] - model.means[0]
    assert (guided - plain) @ direction > 0.5 * direction.square().sum()
    assert draws[1.0].values["label"] == [1] * 200


# -- reconstruct, interpolate, vary --------------------------------------------------------------


def test_reconstruct_pairs_items_with_their_projections() -> None:
    x = GaussianData().draw(3, 0)
    model = Encodes()
    result = reconstruct(model, x, generator=generator(0))
    assert result.x is not None
    assert torch.equal(result.x[0::2], x)
    assert torch.allclose(result.x[1::2], model.decode(model.encode(x)))
    error = (result.x[1::2] - x).square().flatten(1).mean(1)
    assert result.values["squared_error"] == pytest.approx(error.tolist())


def test_flow_to_noise_and_back_is_the_identity_and_whitens() -> None:
    model = Denoises()
    x = model.draw(400, 0)
    noise = to_noise(model, x, None, 60)
    assert torch.allclose(from_noise(model, noise, None, 60), x, atol=0.02)
    variance = (noise.flatten(1) @ model.eigenvectors).var(0)
    assert torch.allclose(variance, torch.ones(16).double(), atol=0.25)


@pytest.mark.parametrize("model", [Encodes(), EncodesGaussian(), Denoises()])
def test_interpolation_ends_at_the_reconstructions(model: Any) -> None:
    x = GaussianData().draw(3, 1)
    result = interpolate(model, x, num=5, num_steps=60, generator=generator(0))
    assert result.x is not None
    assert len(result.x) == 10
    assert result.columns == 5
    ends = model.decode(model.encode(x)) if isinstance(model, Encodes) else x
    assert torch.allclose(result.x[0::5], ends[:-1], atol=5e-3)
    assert torch.allclose(result.x[4::5], ends[1:], atol=5e-3)


def test_interpolation_needs_two_items() -> None:
    with pytest.raises(RecipeError, match="two ends"):
        interpolate(Encodes(), GaussianData().draw(1, 0), generator=generator(0))


def test_slerp_keeps_the_norm_and_lerp_does_not() -> None:
    z = torch.nn.functional.normalize(randn((2, 64), generator(0)), dim=1) * 8
    a, b, half = z[:1], z[1:], torch.tensor([0.5])
    assert slerp(a, b, half).norm().item() == pytest.approx(8, abs=1e-4)
    assert mix(Encodes(), a, b, half, z[0]).norm().item() < 7
    assert torch.allclose(slerp(a, a, half), a, atol=1e-5)


def test_token_latents_change_position_by_position() -> None:
    model = Encodes()
    model.latent_spec = TensorSpec.tokens(10, 7)
    a, b = torch.zeros(1, 10).long(), torch.ones(1, 10).long()
    turn = torch.arange(10) / 10
    share = [int(mix(model, a, b, torch.tensor([w]), turn).sum()) for w in (0.0, 0.35, 1.0)]
    assert share == [0, 4, 10]


@pytest.mark.parametrize("model", [Encodes(), EncodesGaussian(), Denoises()])
def test_variations_go_further_with_strength_and_vanish_without(model: Any) -> None:
    x = GaussianData().draw(4, 2)
    x = model.decode(model.encode(x)) if isinstance(model, Encodes) else x
    change = [
        sum(vary(model, x, strength=s, num_steps=20, generator=generator(0)).values[
            "squared_change"
        ])
        for s in (1e-4, 0.2, 0.9)
    ]  # fmt: skip
    assert change[0] < 1e-5 < change[1] < change[2]
    with pytest.raises(RecipeError, match="strength"):
        vary(model, x, strength=0.0, generator=generator(0))


# -- denoise -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["straight", "cosine"])
def test_denoise_is_the_wiener_filter(kind: Any) -> None:
    model = Denoises()
    model.path = GaussianPath(kind)
    noise_std = 0.2
    y = model.draw(5, 3) + noise_std * randn((5, *SPEC.shape), generator(1))
    wiener = model.cov @ torch.linalg.inv(model.cov + noise_std**2 * torch.eye(16).double())
    result = denoise(model, y, noise_std=noise_std, generator=generator(0))
    assert result.x is not None
    assert torch.allclose(result.x[1::2].flatten(1), y.flatten(1) @ wiener.T, atol=1e-6)


def test_denoise_leaves_clean_items_alone_and_draws_near_them() -> None:
    model, x = Denoises(), GaussianData().draw(2, 3)
    result = denoise(model, x, noise_std=0.0, generator=generator(0))
    assert result.x is not None
    assert torch.equal(result.x[1::2], x)
    drawn = denoise(model, x, noise_std=0.05, method="draw", generator=generator(0))
    assert max(drawn.values["squared_change"]) < 0.05**2 * 4


@pytest.mark.parametrize("space", [(4096,), (64, 64), (16, 16, 16)])
def test_noise_is_estimated_from_the_finest_differences(space: tuple[int, ...]) -> None:
    axes = torch.meshgrid(*[torch.linspace(0, 1, n) for n in space], indexing="ij")
    smooth = sum(torch.sin(3 * axis) for axis in axes)
    y = smooth + 0.25 * randn((1, 1, *space), generator(0))
    assert noise_level(y).item() == pytest.approx(0.25, rel=0.1)
    with pytest.raises(RecipeError, match="noise_std"):
        noise_level(torch.zeros(2, 5))


# -- fill, super_resolve ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "route", "tolerance"), [(Fills(), "fill", 0.03), (Denoises(), "denoise", 0.1)]
)
def test_inpainting_averages_to_the_gaussian_conditional_mean(
    model: Any, route: str, tolerance: float
) -> None:
    x = model.draw(3, 4)
    result = fill(
        model, x, mask="right", num=150, num_steps=40, num_repeats=8, generator=generator(0)
    )
    assert result.x is not None
    assert result.route == route
    assert result.columns == 151
    keep = known_region("right", x, SPEC, generator(0)).flatten()
    error, power = [], []
    for row, truth in zip(result.x.view(3, 151, 16), x.flatten(1), strict=True):
        mean, _ = conditional(model.cov, truth, keep)
        error.append(row[1:, ~keep].mean(0) - mean)
        power.append(mean)
        assert torch.equal(row[1:, keep], truth[keep].expand(150, -1))
        assert (row[0, ~keep] == 0).all()
    assert torch.cat(error).square().mean().sqrt() < tolerance
    assert torch.cat(power).square().mean().sqrt() > 0.15


def test_inpainting_by_an_autoencoder_finds_the_item_that_its_known_part_decides() -> None:
    model = Encodes(latent_dim=2)
    x = model.decode(model.encode(model.draw(3, 4)))
    result = fill(model, x, mask="right", num=2, num_steps=300, generator=generator(0))
    assert result.x is not None
    assert torch.allclose(result.x.view(3, 3, *SPEC.shape)[:, 1], x, atol=1e-3)


@pytest.mark.parametrize("space", [(8,), (8, 8), (4, 8, 8)])
@pytest.mark.parametrize("mask", ["center", "left", "right", "top", "bottom", "random:0.5"])
def test_masks_hide_their_share_of_any_space(space: tuple[int, ...], mask: str) -> None:
    x = torch.zeros(50, 3, *space)
    spec = TensorSpec("real", (3, *space))
    known = known_region(mask, x, spec, generator(0)).expand(x.shape)
    share = 0.5 ** len(space) if mask == "center" else 0.5
    assert (~known).float().mean().item() == pytest.approx(share, abs=0.05)
    assert (known[:, 0] == known[:, 2]).all()
    if mask == "left":
        assert not known[..., 0].any()
        assert known[..., -1].all()


def test_bad_masks_are_named() -> None:
    x = GaussianData().draw(2, 0)
    for mask in ("centre", "random:2", "random:x"):
        with pytest.raises(RecipeError):
            fill(Fills(), x, mask=mask, generator=generator(0))
    with pytest.raises(RecipeError, match="does not fit"):
        fill(Fills(), x, known=torch.ones(3, 3).bool(), generator=generator(0))


@pytest.mark.parametrize("model", [Samples(), Denoises(), Encodes()])
def test_super_resolution_pools_to_what_was_given_exactly(model: Any) -> None:
    x = GaussianData().draw(6, 5)
    result = super_resolve(model, x, factor=2, num_steps=30, generator=generator(0))
    assert result.x is not None
    fine = result.x[1::3]
    assert torch.allclose(pool(fine, 2), pool(x, 2), atol=1e-6)
    assert torch.allclose(result.x[2::3], x)
    again = super_resolve(model, pool(x, 2), factor=2, num_steps=30, generator=generator(0))
    assert again.columns == 2
    assert torch.allclose(again.x[1::2], fine)  # type: ignore[index]


def test_super_resolution_averages_to_the_conditional_mean() -> None:
    model = Denoises()
    x = model.draw(1, 5)
    many = super_resolve(model, x.expand(150, 1, 4, 4), num_steps=60, generator=generator(0))
    assert many.x is not None
    average = many.x[1::3].mean(0).flatten()
    a = torch.stack([pool(row.view(1, 1, 4, 4), 2).flatten() for row in torch.eye(16).double()], 1)
    exact = model.cov @ a.T @ torch.linalg.inv(a @ model.cov @ a.T) @ (a @ x.flatten())
    blocky = many.x[0].flatten()  # what it was given, repeated
    assert (average - exact).norm() < 0.25 * (blocky - exact).norm()


def test_super_resolution_refuses_what_does_not_divide() -> None:
    x = GaussianData().draw(1, 0)
    with pytest.raises(RecipeError, match="divides"):
        super_resolve(Denoises(), x, factor=3, generator=generator(0))
    with pytest.raises(RecipeError, match="neither coarse"):
        super_resolve(Denoises(), x[:, :, :3], factor=2, generator=generator(0))


# -- anomaly, classify, embed --------------------------------------------------------------------


@pytest.mark.parametrize("model", [HasDensity(), Denoises(), Encodes()])
def test_anomaly_orders_outliers_and_maps_them(model: Any) -> None:
    x = GaussianData().draw(12, 6)
    x[3, 0, 2, 1] += 1.5
    x[7] = torch.sign(torch.arange(16) % 2 - 0.5).view(SPEC.shape)
    result = anomaly(model, x, generator=generator(0))
    order = torch.tensor(result.values["score"]).argsort(descending=True)
    assert order[:2].tolist() == [7, 3]
    assert result.x is not None
    if result.route != "log_prob":
        assert result.x[3].flatten().argmax() == 9
        assert result.x.max() == 1


def test_anomaly_by_density_is_bits_per_dim_and_energy_agrees() -> None:
    x, model = GaussianData().draw(4, 6), HasDensity()
    scores = torch.tensor(anomaly(model, x, generator=generator(0)).values["score"])
    exact = -model.log_prob(x, generator=generator(0)) / (16 * math.log(2))
    assert torch.allclose(scores.double(), exact, atol=1e-6)

    class Energy:
        spec = SPEC

        def energy(self, x: Tensor) -> Tensor:
            return -model.log_prob(x, generator=generator(0))

    by_energy = torch.tensor(anomaly(Energy(), x, generator=generator(0)).values["score"])
    assert torch.allclose(by_energy.double(), exact * math.log(2), atol=1e-6)


@pytest.mark.parametrize(("model", "tolerance"), [(HasDensity(3), 1e-6), (Denoises(3), 0.12)])
def test_generative_classification_is_the_bayes_rule(model: Any, tolerance: float) -> None:
    labels = torch.arange(3).repeat(20)
    x = model.draw(60, 7, {"label": labels})
    prior = [0.5, 0.3, 0.2]
    result = classify(model, x, prior=prior, num_draws=200, generator=generator(0))
    density = HasDensity(3)
    joint = torch.stack([
        density.log_prob(x, cond={"label": torch.full((60,), y)}, generator=generator(0))
        + math.log(prior[y])
        for y in range(3)
    ], dim=1)  # fmt: skip
    bayes = joint.softmax(1)
    assert (torch.tensor(result.values["probs"]) - bayes).abs().mean() < tolerance
    assert result.values["label"] == torch.tensor(result.values["probs"]).argmax(1).tolist()


def test_classify_uses_a_classifier_and_explains_a_model_without_labels() -> None:
    x = torch.full((3, *SPEC.shape), 0.1)
    result = classify(Predicts(), x, generator=generator(0))
    assert result.route == "predict"
    assert result.values["label"] == [1, 1, 1]
    with pytest.raises(RefusedPair, match="not trained with labels"):
        classify(HasDensity(), x, generator=generator(0))
    with pytest.raises(RecipeError, match="prior"):
        classify(HasDensity(3), x, prior=[1.0], generator=generator(0))


def test_classes_are_told_by_the_names_that_the_data_has() -> None:
    x = torch.full((3, *SPEC.shape), 0.1)
    codec = SimpleNamespace(class_names=lambda name: ["low", "high"])
    result = classify(Predicts(), x, codec, generator=generator(0))
    assert result.values["label"] == ["high"] * 3
    assert result.values["classes"] == ["low", "high"]
    likely = [row[1] for row in result.values["probs"]]
    assert result.told == {"label": ["high"] * 3, "probability": likely}


def test_principal_positions_are_the_projections_of_largest_variance() -> None:
    x = GaussianData().draw(200, 8).flatten(1)
    positions = principal(x, 2)
    expected = torch.linalg.eigvalsh(x.T.cov()).flip(0)[:2]
    assert torch.allclose(positions.var(0), expected)
    assert torch.allclose(positions, principal(x.flip(0), 2).flip(0))


def test_a_map_of_latents_is_decoded_where_the_items_lie() -> None:
    model = Encodes(2)  # whose latents are a plane, so that nothing of them is left out
    x = model.draw(40, 0)
    whole = traverse(model, x, num=3, reach=1.5, generator=generator(0))
    items = torch.tensor(whole.values["items"])
    assert items.std(0, correction=0) == pytest.approx(torch.ones(2), abs=1e-6)
    assert items.mean(0) == pytest.approx(torch.zeros(2), abs=1e-6)
    assert whole.values["share"] == pytest.approx(1)
    assert whole.values["across"] == pytest.approx([-1.5, 0, 1.5] * 3)
    assert whole.values["up"] == pytest.approx([1.5] * 3 + [0] * 3 + [-1.5] * 3)
    middle = model.decode(model.encode(x).mean(0, keepdim=True))
    assert torch.allclose(whole.x[4:5], middle)
    across, up = items[7].tolist()
    (there,) = traverse(model, x, across=across, up=up, generator=generator(0)).x
    assert torch.allclose(there, model.decode(model.encode(x[7:8]))[0], atol=1e-6)


def test_a_map_of_latents_needs_a_plane() -> None:
    with pytest.raises(RecipeError, match="items that it goes through"):
        traverse(Encodes(), GaussianData().draw(2, 0), generator=generator(0))
    reason = why_not(family("vq_vae", SPEC), traverse)
    assert reason is not None
    assert "are tokens" in reason
    wide = traverse(Encodes(1), GaussianData().draw(4, 0), num=2, generator=generator(0))
    assert torch.equal(wide.x[:2], wide.x[2:])  # there is nothing that could vary upwards


def test_embed_places_items_the_same_for_the_same_seed() -> None:
    x = torch.cat([GaussianData().draw(20, 9), GaussianData().draw(20, 10) + 2])
    first, second = (embed(Encodes(), x, generator=generator(3)) for _ in range(2))
    assert first.route == "encode, tsne"
    assert first.positions is not None
    assert second.positions is not None
    assert torch.equal(first.positions, second.positions)
    few = embed(Encodes(), x[:5], generator=generator(0))
    assert few.route == "encode, pca"
    near, far = first.positions[:20], first.positions[20:]
    assert torch.cdist(near, far).min() > torch.cdist(near, near).median() * 0.5
    with pytest.raises(RecipeError, match="three items"):
        embed(Encodes(), x[:2], generator=generator(0))


# -- data other than grids -------------------------------------------------------------------------

ENDED = TensorSpec.tokens(8, 5, end=4)
ROWS = ProductSpec({"age": TensorSpec.vector(1), "job": TensorSpec.label(3)})


def family(name: str, spec: Any) -> Any:
    """A small untrained family: its weights are as they start, its rules are those of any."""
    torch.manual_seed(0)
    recipe = Recipe(family={"name": name}, backbone={"model_dim": 32})
    built = build_family(recipe, spec, {})
    built.prepare(Batch(draw_data(spec, 32, 0)), generator(0))
    return built.eval()


@pytest.mark.parametrize("name", ["super_resolve", "denoise"])
@pytest.mark.parametrize("spec", [ENDED, TensorSpec.tokens(16, 5), ROWS])
def test_what_is_made_for_real_values_says_no_to_tokens_and_parts(name: str, spec: Any) -> None:
    reason = why_not(family("vae", spec), discover.find("task", name))
    assert reason is not None
    assert str(spec) in reason


@pytest.mark.parametrize("spec", [ENDED, ROWS])
def test_filling_hides_a_part_of_what_is_real_and_keeps_the_rest(spec: Any) -> None:
    model, x = family("vae", spec), draw_data(spec, 6, 3)
    mask = "job" if spec is ROWS else "left"
    known = known_region(mask, x, spec, generator(0))
    result = fill(model, x, mask=mask, num=2, num_steps=3, generator=generator(0))
    again = rows(result.x, torch.arange(18) % 3 != 0)
    twice = each(lambda part: part.repeat_interleave(2, 0), x)
    if spec is ROWS:
        assert torch.equal(again["age"], twice["age"])
        assert not known["job"].any()
    else:
        lengths = spec.num_real(x)
        assert (~known).sum(1).tolist() == [math.ceil(n / 2) for n in lengths.tolist()]
        held = known.repeat_interleave(2, 0)
        assert torch.equal(again[held], twice[held])


def test_masks_hide_values_within_runs_that_are_there_and_never_their_marks() -> None:
    runs = (Run("word_there", 1, 0, 2), Run("word", 20, 4, 9), Run("picture_there", 1, 2, 2),
            Run("picture", 40, 13, 5))  # fmt: skip
    spec = TensorSpec.interleaved(runs)
    x = torch.full((200, 62), 4)
    x[:, 0], x[:, 21] = 1, torch.tensor([2, 3]).repeat(100)  # every other one has no picture
    hidden = ~known_region("random:0.5", x, spec, generator(0))
    assert not hidden[:, [0, 21]].any()
    assert not hidden[::2, 22:].any()
    within = [hidden[:, 1:21], hidden[1::2, 22:]]  # each by itself
    assert all(part.float().mean().item() == pytest.approx(0.5, abs=0.03) for part in within)
    assert all(0 < part.float().mean(1).min() < part.float().mean(1).max() < 1 for part in within)
    hidden = ~known_region("left", x, spec, generator(0))
    assert hidden[1].nonzero().flatten().tolist() == [*range(1, 21), *range(22, 31)]


@pytest.mark.parametrize("name", ["masked", "autoregressive"])
def test_what_is_filled_is_drawn_within_limits(name: str) -> None:
    spec = TensorSpec.tokens(8, 5)
    model, x = family(name, spec), draw_data(spec, 4, 3)

    def drawn(seed: int, **limits: Any) -> Tensor:
        how = {"mask": "right", "num": 2, "num_steps": 1, **limits}
        result = fill(model, x, **how, generator=generator(seed))
        return result.x.view(4, 3, 8)[:, 1:]  # type: ignore[union-attr]

    most = drawn(0, temperature=0.0)
    assert torch.equal(most[:, 0], most[:, 1])
    assert torch.equal(most, drawn(1, top_k=1))
    assert torch.equal(most, drawn(2, top_p=1e-9))
    assert not torch.equal(most, drawn(0))


def test_limits_that_a_way_does_not_take_are_named() -> None:
    x = GaussianData().draw(2, 0)
    with pytest.raises(RecipeError, match="Fills does not fill with 'temperature'"):
        fill(Fills(), x, temperature=0.5, generator=generator(0))
    with pytest.raises(RecipeError, match="'denoise', which draws no tokens"):
        fill(Denoises(), x, top_k=5, generator=generator(0))


def test_a_part_that_is_not_there_is_named() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'job'"):
        fill(family("vae", ROWS), draw_data(ROWS, 2, 0), mask="jib", generator=generator(0))


@pytest.mark.parametrize("spec", [ENDED, ROWS, TensorSpec.columns((3, 2, 4))])
def test_rebuilding_and_varying_count_what_differs(spec: Any) -> None:
    model, x = family("vae", spec), draw_data(spec, 5, 3)
    rebuilt = reconstruct(model, x, generator=generator(0))
    shares = rebuilt.values["error_share"]
    assert len(shares) == 5
    assert all(share >= 0 for share in shares)
    pairs = rows(rebuilt.x, torch.arange(10) % 2 == 0)
    assert equal(pairs, x)
    varied = vary(model, x, num=3, generator=generator(0))
    assert len(varied) == 20
    strange = anomaly(model, x, route="reconstruct", generator=generator(0))
    assert strange.values["score"] == pytest.approx(shares)
    walked = interpolate(model, x, num=3, generator=generator(0))
    assert len(walked) == 12
    assert equal(spec.canonical(walked.x), walked.x)
