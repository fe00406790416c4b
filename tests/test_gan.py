"""The loss and its penalties in closed form, and a game small enough to know the answer."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from morphogen.backbones.conv import Conv
from morphogen.backbones.mlp import MLP
from morphogen.backbones.transformer import Transformer
from morphogen.core.backbone import Backbone, BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.capability import CanDecode, CanSample, missing
from morphogen.core.errors import RefusedPair
from morphogen.core.random import generator, randint, randn
from morphogen.core.spec import TensorSpec
from morphogen.families.gan import DRIFT, GAN, augment
from morphogen.training.distributed import Processes
from morphogen.training.optimizer import PhaseUpdate
from morphogen.training.options import TrainOptions

GREY = TensorSpec("real", (1, 8, 8), levels=17)
LABEL = {"label": TensorSpec.label(3)}


class Affine(Backbone):
    """One affine map: its gradient in x is its weight, everywhere."""

    def __init__(self, in_spec, out_spec, cond_dim=0, causal=False):
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.map = nn.Linear(in_spec.num_values, out_spec.num_values)

    def forward(self, x, cond=None):
        return self.map(x.flatten(1)).unflatten(1, self.out_spec.shape)


class TwoLayers(Backbone):
    """Without normalisation, so that a critic can tell how far away a number is."""

    def __init__(self, in_spec, out_spec, cond_dim=0, causal=False):
        super().__init__(in_spec, out_spec, cond_dim, causal)
        widths = (in_spec.num_values, 32, 32, out_spec.num_values)
        first, second, last = (nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.layers = nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2), last)

    def forward(self, x, cond=None):
        return self.layers(x)


def updates(model: GAN, lr: float) -> dict[str, PhaseUpdate]:
    names = {p: name for name, p in model.named_parameters()}
    options = TrainOptions.resolve({"lr": lr}, GAN.train_defaults)
    return {
        phase: PhaseUpdate(
            phase, [(names[p], p) for p in model.parameters_of(phase)], options, Processes()
        )
        for phase in model.phases
    }


def test_penalties_of_a_linear_critic_are_its_squared_weight():
    model = GAN(GREY, {}, BuildBackbone(Affine), gamma=3.0)
    loss, parts = model.loss(Batch(randn((5, 1, 8, 8), generator(0))), "critic", generator(1))
    squared = model.critic.map.weight.square().sum().expand(5)
    torch.testing.assert_close(parts["r1"], squared)
    torch.testing.assert_close(parts["r2"], squared)
    drift = DRIFT * (0.5 * parts["gap"] - parts["real"]).square()
    torch.testing.assert_close(loss, parts["adversarial"] + 3.0 * squared + drift)
    # d/dw of gamma (r1 + r2) / 2 = 2 gamma w: the penalty's own gradient goes through.
    penalty = (loss - parts["adversarial"] - drift).mean()
    slope = torch.autograd.grad(penalty, model.critic.map.weight)[0]
    torch.testing.assert_close(slope, 6.0 * model.critic.map.weight)


def test_equal_scores_cost_log_two_and_the_sides_exchange_the_pair():
    model = GAN(GREY, {}, BuildBackbone(Affine), gamma=0.0)
    batch = Batch(randn((4, 1, 8, 8), generator(0)))
    critic, parts = model.loss(batch, "critic", generator(1))
    fooled, _ = model.loss(batch, "generator", generator(1))
    gap = parts["gap"]
    torch.testing.assert_close(parts["adversarial"], torch.log1p(torch.exp(-gap)))
    drift = DRIFT * (parts["real"] - 0.5 * gap).square()
    torch.testing.assert_close(critic, parts["adversarial"] + drift)
    torch.testing.assert_close(fooled, torch.log1p(torch.exp(gap)))
    for parameter in model.critic.map.parameters():
        nn.init.zeros_(parameter)
    for phase in model.phases:
        loss, _ = model.loss(batch, phase, generator(1))
        torch.testing.assert_close(loss, torch.full((4,), math.log(2)))


def test_each_phase_updates_its_own_side():
    model = GAN(GREY, LABEL, BuildBackbone(Conv, model_dim=8))
    critic = {id(p) for p in model.parameters_of("critic")}
    maker = {id(p) for p in model.parameters_of("generator")}
    assert not critic & maker
    assert critic | maker == {id(p) for p in model.parameters()}
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    batch = Batch(randn((6, 1, 8, 8), generator(0)), cond={"label": randint(3, (6,), generator(1))})
    both = updates(model, 1e-3)
    loss, _ = model.loss(batch, "critic", generator(2))
    both["critic"].minimise(loss.mean())
    changed = {id(p) for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert changed <= critic


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        (MLP, {"model_dim": 16, "num_layers": 1}),
        (Conv, {"model_dim": 8}),
        (Transformer, {"model_dim": 16, "num_layers": 1}),
    ],
)
def test_every_backbone_bears_second_derivatives(backbone, options):
    model = GAN(GREY, LABEL, BuildBackbone(backbone, **options), augment_prob=0.5)
    batch = Batch(randn((4, 1, 8, 8), generator(0)), cond={"label": randint(3, (4,), generator(1))})
    logs = model.step(batch, updates(model, 1e-3), generator(2))
    assert all(torch.isfinite(value) for value in logs.values())
    assert {"critic/r1", "critic/r2", "critic/loss", "generator/loss"} <= logs.keys()


def test_learns_the_mean_and_spread_of_a_gaussian():
    torch.manual_seed(0)
    model = GAN(TensorSpec.vector(1), {}, BuildBackbone(TwoLayers), latent_dim=2, gamma=1.0)
    both, draw = updates(model, 5e-3), generator(0)
    for step in range(200):
        model.step(Batch(1.0 + 0.5 * randn((128, 1), draw)), both, generator(step))
    drawn = model.sample(4000, generator=generator(1))
    assert abs(float(drawn.mean()) - 1.0) < 0.15
    assert 0.35 < float(drawn.std()) < 0.65


@pytest.mark.parametrize("shape", [(2, 9), (3, 8, 6), (1, 5, 6, 7)])
def test_augmentation_keeps_shape_and_lets_gradients_through(shape):
    x = randn((64, *shape), generator(0)).requires_grad_()
    assert augment(x, 0.0, generator(1)) is x
    changed = augment(x, 1.0, generator(1), flip=True)
    assert changed.shape == x.shape
    assert not torch.equal(changed, x)
    grad = torch.autograd.grad(changed.sum(), x)[0]
    # Every value is moved or dropped, at most a few land twice at the edge: never altered.
    assert set(grad.unique().tolist()) <= {0.0, 1.0}
    assert 0.2 < float(grad.mean()) < 1.0
    kept = changed[changed != 0]
    assert torch.isin(kept, x.detach()).all()


def test_augmentation_decides_item_by_item():
    x = 1 + randn((400, 1, 8, 8), generator(0)).abs()
    same = (augment(x, 0.3, generator(1)) == x).flatten(1).all(1).float().mean()
    # Neither shifted (a shift of 0 in both axes is possible) nor cut: 0.7^2 and a little more.
    assert 0.42 < float(same) < 0.62
    assert augment(torch.ones(3, 5), 1.0, generator(0)).equal(torch.ones(3, 5))


def test_samples_obey_conditions_seed_and_range():
    model = GAN(GREY, LABEL, BuildBackbone(MLP, model_dim=16))
    for capability in (CanSample, CanDecode):
        assert not missing(model, capability)
    label = {"label": torch.tensor([0, 1, 2])}
    x = model.sample(3, cond=label, generator=generator(0))
    assert torch.equal(x, model.sample(3, cond=label, generator=generator(0)))
    assert x.abs().max() <= 1
    z = randn((3, *model.latent_spec.shape), generator(0))
    assert torch.equal(model.decode(z, label), x)
    with pytest.raises(RefusedPair):
        model.sample(3, cond={"size": torch.zeros(3)}, generator=generator(0))
    with pytest.raises(RefusedPair, match="tokens"):
        GAN(TensorSpec.tokens(4, 5), {}, BuildBackbone(MLP))
