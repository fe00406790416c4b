"""Few steps: what is drawn in one step is what many steps draw of the same noise."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import morphogen as mg
from morphogen.core.batch import Batch
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.family import Family
from morphogen.core.gaussian_path import GaussianPath
from morphogen.core.objective import Reference
from morphogen.core.random import generator, randint, randn
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import TensorSpec
from morphogen.objectives import _matching
from morphogen.objectives._matching import FIRST, LEAST, TIMES, Matching
from morphogen.objectives.few_steps import FewSteps
from morphogen.training.distributed import Processes
from morphogen.training.loop import Log
from morphogen.training.optimizer import PhaseUpdate
from morphogen.training.options import TrainOptions
from morphogen.training.run import sessions

VECTOR = TensorSpec.vector(2)
LABELS = {"label": TensorSpec.label(2)}


def items(num: int, seed: int) -> Batch:
    """Two clusters for each of two labels: (label, -1) and (label, 1), blurred."""
    draw = generator(seed)
    label = randint(2, (num,), draw)
    side = 2.0 * randint(2, (num,), draw) - 1
    x = torch.stack([2.0 * label - 1, side], 1) + 0.1 * randn((num, 2), draw)
    return Batch(0.5 * x, cond={"label": label})


def family(name: str = "flow_matching", **options: object) -> Family:
    torch.manual_seed(0)
    recipe = Recipe(
        family={"name": name, "cond_dim": 16, **options}, backbone={"name": "mlp", "model_dim": 32}
    )
    return build_family(recipe, VECTOR, LABELS)


def learned(model: Family, teach: object, steps: int, lr: float, num: int) -> Family:
    options = TrainOptions(lr=lr, optimizer="adamw")
    updates = {"all": PhaseUpdate("all", model.named_parameters(), options, Processes.join())}
    for step in range(steps):
        teach.step(items(num, step), updates, generator(step))  # type: ignore[attr-defined]
    return model.eval()


def many(name: str) -> Family:
    """A model that draws the clusters in many steps."""
    model = family(name)
    model.prepare(items(1000, 99), generator(0))
    return learned(model, model, 300, 5e-3, 128)


def drawn(model: Family, num_steps: int | None) -> tuple[Tensor, Tensor]:
    label = torch.arange(2).repeat_interleave(200)
    sample = model.sample  # type: ignore[operator]
    return label, sample(400, cond={"label": label}, generator=generator(1), num_steps=num_steps)


def share_in_clusters(label: Tensor, x: Tensor) -> float:
    centre = torch.stack([label - 0.5, 0.5 * x[:, 1].sign()], 1)
    return float(((x - centre).norm(dim=1) < 0.25).float().mean())


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_of_the_run_is_one(share: float) -> None:
    with pytest.raises(RecipeError, match=r"(?s)match_from=.*0 to 1"):
        FewSteps(match_from=share)
    assert FewSteps(match_from=0).match_from == 0


@pytest.mark.parametrize(("name", "num_steps"), [("flow_matching", 1), ("diffusion", 2)])
def test_few_steps_draw_what_many_do(name: str, num_steps: int) -> None:
    base = many(name)
    model, objective = copy.deepcopy(base), FewSteps(num_steps=num_steps)
    objective.put_on(model, Reference(model, copy.deepcopy(base)), None)
    learned(model, objective, 100, 5e-3, 128)
    label, x = drawn(model, None)
    assert share_in_clusters(label, x) > share_in_clusters(*drawn(base, 12)) - 0.2 > 0.6
    assert share_in_clusters(*drawn(base, 1)) < 0.1  # the mean, which is in none
    for each in (0, 1):
        assert 0.35 < float((x[label == each, 1] > 0).float().mean()) < 0.65
    near = objective.scores(model, items(64, 0), generator(2))
    assert near.shape == (64,)
    far = objective.scores(base, items(64, 0), generator(2))
    assert float(near.mean()) > 0.5 * float(far.mean())  # both below 0


@pytest.mark.parametrize("kind", ["straight", "cosine"])
def test_a_leap_is_where_the_flow_of_a_gaussian_ends(kind: str) -> None:
    """Known in closed form: before anything is learned, one step draws what a thousand do."""
    name = {"straight": "flow_matching", "cosine": "diffusion"}[kind]
    model = family(name, sharpness=1.0)
    assert model.path == GaussianPath(kind)  # type: ignore[comparison-overlap]
    stretch = torch.tensor([[0.6, 0.3], [0.0, 0.2]])
    model.prepare(Batch(0.1 + randn((2000, 2), generator(0)) @ stretch), generator(0))
    with torch.no_grad():
        for parameter in model.network.parameters():  # type: ignore[union-attr]
            parameter.zero_()
    noise, far = randn((100, 2), generator(3)), {"num_steps": 1000, "sampler": "heun"}
    integrate = model.integrate  # type: ignore[operator]
    many = integrate(noise, 1.0, generator=generator(0), **far)
    model.leaps = True  # type: ignore[assignment]
    one = integrate(noise, 1.0, generator=generator(0), num_steps=1, sampler="ancestral")
    torch.testing.assert_close(one, many, atol=5e-3, rtol=0)


def test_what_is_drawn_is_moved_along_the_difference_of_the_scores() -> None:
    """Known in closed form where both are Gaussian: (E_drawn - E_model) of the items under noise,
    over the distance from the latter; so much to the left as what is drawn lies to the right."""
    model = family(sharpness=1.0)
    model.prepare(Batch(0.5 * randn((2000, 2), generator(0))), generator(0))
    with torch.no_grad():
        for parameter in model.network.parameters():  # type: ignore[union-attr]
            parameter.zero_()
    matching = Matching(model)
    matching.model.baseline.mean.add_(torch.tensor([0.3, 0.0]))  # as if all had been drawn there
    x = matching.model.baseline.mean + 0.5 * randn((4000, 2), generator(1))
    direction = matching.direction(x, {}, model, generator(2))
    draw = generator(2)
    t = torch.sigmoid(randn((4000,), draw)).clamp(*TIMES)
    x_t = model.path.noised(x, randn(x.shape, draw), t)  # type: ignore[operator]
    wanted = model.denoise(x_t, t)  # type: ignore[operator]
    shift = (matching.model.denoise(x_t, t) - wanted)[:, 0]
    alpha, sigma = (1 - t), t
    seen = model.baseline.variance.mean()  # type: ignore[union-attr]
    torch.testing.assert_close(
        shift, 0.3 * sigma.square() / (alpha.square() * seen + sigma.square()), atol=0.02, rtol=0
    )
    apart = (x - wanted).abs().mean(1).clamp(min=LEAST)
    torch.testing.assert_close(direction[:, 0], shift / apart)
    assert direction[:, 0].min() > 0, "a gradient: what follows it downwards goes to the left"


def test_matching_learns_what_is_drawn() -> None:
    model = family(sharpness=1.0)
    model.prepare(items(1000, 0), generator(0))
    matching, lies = Matching(model), torch.tensor([0.8, -0.4])
    assert not matching.weight
    for step in range(FIRST):
        draw = generator(step)
        matching.learn(lies + 0.05 * randn((64, 2), draw), {}, draw)
    assert not matching.weight, "it begins to be believed"
    noise = torch.full((50,), 0.9)
    with torch.no_grad():
        found = matching.model.eval().denoise(randn((50, 2), generator(3)), noise)
        before = model.eval().denoise(randn((50, 2), generator(3)), noise)  # type: ignore[operator]
    assert (found.mean(0) - lies).norm() < 0.5 * (before.mean(0) - lies).norm()
    kept = {name: value.clone() for name, value in matching.state().items()}
    one, two = Matching(model), Matching(model)
    for each in (one, two):  # what is kept stays as it is
        each.load_state(kept)
    for each in (matching, one, two):
        each.learn(lies.repeat(8, 1), {}, generator(4))
        for found, expected in zip(each.parameters, matching.parameters, strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("match_from", [1.0, 0.25])
def test_a_run_that_is_interrupted_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, match_from: float
) -> None:
    """And its bundle draws in one step unless told otherwise, while its base stays as it was."""
    monkeypatch.setattr(_matching, "FIRST", 4)
    x = tmp_path / "x.npy"
    np.save(x, (np.random.default_rng(0).random((96, 4, 4)) * 255).astype(np.uint8))
    small = ["backbone.model_dim=8", "family.cond_dim=8", "train.batch_size=32"]
    base = tmp_path / "base"
    mg.train(x, "flow_matching", settings=small, budget="4steps", out=base)
    given = {
        "start": base, "objective": "few_steps", "budget": "4steps",
        "settings": ["train.batch_size=32", f"objective.match_from={match_from}"],
    }  # fmt: skip
    whole = mg.train(x, **given, out=tmp_path / "whole")
    stages = sessions(x, **given, out=tmp_path / "cut")
    held = next(stages)

    def stop(log: Log) -> None:
        held.run.stop = log.step >= 2

    held.train(stop)
    stages.close()
    again = mg.train(x, out=tmp_path / "cut", resume=True)
    for name, tensor in whole.family.state_dict().items():
        assert torch.equal(tensor, again.family.state_dict()[name]), name
    opened = mg.open(tmp_path / "cut").family
    assert (opened.num_steps, opened.leaps) == (1, True)
    assert not mg.open(base).family.leaps


def test_what_cannot_be_taught_so_is_refused() -> None:
    with pytest.raises(RecipeError, match="learns from what draws in more"):
        FewSteps(num_steps=6)
    objective = FewSteps()
    vae = build_family(
        Recipe(family={"name": "vae", "latent_dim": 2}, backbone={"name": "mlp"}), VECTOR, {}
    )
    with pytest.raises(RefusedPair, match="flow_matching or diffusion"):
        objective.changes(vae)
    with pytest.raises(RefusedPair, match=r"family\.target=v or x"):
        objective.changes(family("diffusion", target="eps"))
    model = family()
    with pytest.raises(RefusedPair, match="leave --adapter out"):
        objective.put_on(model, Reference(model), None)
    with pytest.raises(RefusedPair, match="the model that it began with"):
        objective.put_on(model, Reference(model, family(leaps=True)), None)
