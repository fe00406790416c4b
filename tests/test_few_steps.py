"""Few steps: what is drawn in one step is distributed as items are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.objective import Reference
from morphogen.core.random import generator, randint, randn
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import TensorSpec
from morphogen.families.flow_matching import FlowMatching
from morphogen.objectives.few_steps import FewSteps

VECTOR = TensorSpec.vector(2)


def items(num: int, seed: int) -> Batch:
    """Two clusters for each of two labels: (label, -1) and (label, 1), blurred."""
    draw = generator(seed)
    label = randint(2, (num,), draw)
    side = 2.0 * randint(2, (num,), draw) - 1
    x = torch.stack([2.0 * label - 1, side], 1) + 0.1 * randn((num, 2), draw)
    return Batch(0.5 * x, cond={"label": label})


def family() -> FlowMatching:
    torch.manual_seed(0)
    recipe = Recipe(
        family={"name": "flow_matching", "baseline": "none", "cond_dim": 16},
        backbone={"name": "mlp", "model_dim": 32},
    )
    return build_family(recipe, VECTOR, {"label": TensorSpec.label(2)})


def taught(steps: int, **options: int) -> FlowMatching:
    model = family()
    objective = FewSteps(**options)
    objective.put_on(model, Reference(model, copy.deepcopy(model)), None)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(steps):
        optimizer.zero_grad()
        objective.distance(model, items(128, step), generator(step)).backward()
        optimizer.step()
    return model


def test_one_step_draws_both_clusters_of_the_label_that_is_asked_for() -> None:
    model = taught(120, num_directions=64)
    label = torch.arange(2).repeat_interleave(200)
    x: Tensor = model.sample(400, cond={"label": label}, generator=generator(1), num_steps=1)
    assert ((x[:, 0] > 0) == (label == 1)).float().mean() > 0.95
    for each in (0, 1):
        side = x[label == each, 1]
        assert 0.3 < float((side > 0).float().mean()) < 0.7
        assert float((side.abs() > 0.25).float().mean()) > 0.7  # the mean of both is 0


def test_a_distance_falls_from_means_to_items() -> None:
    """Of a model that draws the data's own items it is that of two draws; of means it is more."""
    model = family()
    objective = FewSteps()
    objective.put_on(model, Reference(model, copy.deepcopy(model)), None)
    assert model.num_steps == 1
    batch = items(256, 0)
    before = objective.scores(model, batch, generator(1))
    assert before.shape == (256,)
    near = batch.x + 0.01 * randn(batch.x.shape, generator(2))
    model.denoise = lambda x_t, t, cond: near  # type: ignore[method-assign]
    after = objective.scores(model, batch, generator(1))
    assert bool((before < 10 * after).all())  # both below 0


def test_what_cannot_be_taught_so_is_refused() -> None:
    with pytest.raises(RecipeError, match="nothing to draw with"):
        FewSteps(num_steps=0)
    objective = FewSteps(num_steps=2)
    recipe = Recipe(family={"name": "vae", "latent_dim": 2}, backbone={"name": "mlp"})
    vae = build_family(recipe, VECTOR, {})
    with pytest.raises(RefusedPair, match="flow_matching or diffusion"):
        objective.put_on(vae, Reference(vae, vae), None)
    model = family()
    objective.put_on(model, Reference(model, model), None)
    with pytest.raises(RecipeError, match="batches of 4"):
        objective.distance(model, items(4, 0), generator(0))
    found = objective.distance(model, items(16, 0), generator(0))
    assert bool(torch.isfinite(found))
