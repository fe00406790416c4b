"""Layers learn in turn, and what they make together has the shape and statistics of the data."""

from __future__ import annotations

import itertools

import pytest
import torch

from morphogen.backbones.mlp import MLP
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.capability import CanReconstruct, CanSample, missing
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.random import generator, rand, randint, randn
from morphogen.core.spec import TensorSpec
from morphogen.families._rbm_layer import RBMLayer
from morphogen.families.dbn import DBN
from morphogen.training.distributed import Processes
from morphogen.training.optimizer import PhaseUpdate
from morphogen.training.options import TrainOptions

GREY = TensorSpec("real", (1, 4, 4), levels=17)
LABEL = {"label": TensorSpec.label(2)}
BUILD = BuildBackbone(MLP)


def stripes(num: int, seed: int) -> Batch:
    """Class 0: left half bright; class 1: top half bright; one value in ten is random."""
    draw = generator(seed)
    label = randint(2, (num,), draw)
    shapes = -torch.ones(2, 1, 4, 4)
    shapes[0, :, :, :2], shapes[1, :, :2] = 1, 1
    x = shapes[label]
    noise = 2 * rand(x.shape, draw) - 1
    return Batch(torch.where(rand(x.shape, draw) < 0.1, noise, x), cond={"label": label})


def build(conditions=None, **options) -> DBN:
    torch.manual_seed(0)
    options = {"num_hidden": (12, 10), "num_chains": 0, "cd_steps": 2, **options}
    return DBN(GREY, conditions or {}, BUILD, **options)


def train(model: DBN, num_steps: int) -> None:
    options = TrainOptions(lr=1e-2, grad_clip=0)
    update = PhaseUpdate("all", model.named_parameters(), options, Processes())
    model.prepare(stripes(256, seed=99), generator(0))
    for step in range(num_steps):
        model.progress = step / num_steps
        model.step(stripes(64, seed=step), {"all": update}, generator(step))


def snapshot(model: DBN) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_layers_learn_in_turn():
    model = build(num_hidden=(12, 10, 8))
    update = PhaseUpdate("all", model.named_parameters(), TrainOptions(lr=1e-2), Processes())
    model.prepare(stripes(64, 0), generator(0))
    for turn, progress in enumerate([0.1, 0.4, 0.9]):
        model.progress = progress
        for step in range(3):
            before = snapshot(model)
            model.step(stripes(32, step), {"all": update}, generator(step))
            changed = {
                n.split(".")[1] for n, p in snapshot(model).items() if (p != before[n]).any()
            }
            assert changed == {str(turn)}
    model.progress = 1.0
    assert model.stage == 2


def test_upside_down_a_layer_is_the_same_model():
    # p(h) of the lower machine is p(v) of the upper one: free energies differ by a constant.
    below, above, draw = RBMLayer(4, 5), RBMLayer(5, 4), generator(0)
    with torch.no_grad():
        for parameter in below.parameters():
            parameter.copy_(randn(parameter.shape, draw))
    above.start_upside_down(below)
    v = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    h = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)))
    energy = -(v @ below.visible_bias)[:, None] - h @ below.hidden_bias - v @ below.weight @ h.T
    torch.testing.assert_close(above.free_energy(h), -torch.logsumexp(-energy, dim=0))
    narrow = RBMLayer(5, 3)
    before = narrow.weight.clone()
    narrow.start_upside_down(below)
    assert torch.equal(narrow.weight, before)


@pytest.mark.parametrize("progress", [0.0, 0.9])
@pytest.mark.parametrize("num_chains", [0, 8])
def test_hand_written_gradient_is_the_gradient_of_the_loss(progress, num_chains):
    model, batch = build(LABEL, num_chains=num_chains), stripes(16, 1)
    update = PhaseUpdate("all", model.named_parameters(), TrainOptions(lr=1e-9), Processes())
    model.prepare(batch, generator(0))
    model.progress = progress
    model.step(batch, {"all": update}, generator(1))  # lets the layer in turn begin
    loss, _ = model.loss(batch, "all", generator(2))
    wanted = torch.autograd.grad(loss.mean(), list(model.parameters()), allow_unused=True)
    update.options = TrainOptions(lr=1e-9, grad_clip=0)
    model.step(batch, {"all": update}, generator(2))
    for parameter, grad in zip(model.parameters(), wanted, strict=True):
        assert (parameter.grad is None) == (grad is None)
        if grad is not None:
            torch.testing.assert_close(parameter.grad, grad, atol=1e-5, rtol=1e-4)


def test_samples_have_the_statistics_of_their_class():
    model = build(LABEL, num_hidden=(24, 24))
    train(model, 400)
    for label in (0, 1):
        held = torch.full((400,), label)
        drawn = model.sample(400, cond={"label": held}, generator=generator(3), num_steps=50)
        data = stripes(2000, 5)
        wanted = data.x[data.cond["label"] == label].mean(0)
        assert (drawn.mean(0) - wanted).abs().mean() < 0.25
        assert drawn.min() >= -1
        assert drawn.max() <= 1


def test_reconstruction_beats_the_mean():
    model = build(num_hidden=(24, 24))
    train(model, 300)
    x = stripes(200, 7).x
    back = model.decode(model.encode(x))
    assert (back - x).square().mean() < 0.6 * (x - x.mean(0)).square().mean()
    assert torch.equal(back, model.decode(model.encode(x)))


def test_one_layer_and_gaussian_units():
    model = DBN(TensorSpec.vector(3), {}, BUILD, num_hidden=(5,), num_chains=0)
    assert model.sample(4, generator=generator(0), num_steps=2).shape == (4, 3)
    deep = DBN(TensorSpec.vector(3), {}, BUILD, num_hidden=(5, 4), num_chains=0)
    assert deep.sample(4, generator=generator(0), num_steps=2).shape == (4, 3)
    for capability in (CanSample, CanReconstruct):
        assert not missing(deep, capability)


def test_what_does_not_fit_is_refused():
    with pytest.raises(RefusedPair):
        DBN(TensorSpec.tokens(4, 7), {}, BUILD)
    with pytest.raises(RecipeError):
        DBN(GREY, {}, BUILD, num_hidden=())
    with pytest.raises(RefusedPair):
        build().sample(2, cond={"label": torch.zeros(2).long()}, generator=generator(0))
