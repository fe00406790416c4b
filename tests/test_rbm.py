"""A machine small enough to enumerate is held to its exact distribution."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.distributions import Normal

from morphogen.backbones.mlp import MLP
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.capability import CanFill, CanPredict, CanReconstruct, missing
from morphogen.core.errors import RefusedPair
from morphogen.core.random import generator, rand, randint, randn
from morphogen.core.spec import TensorSpec
from morphogen.families._rbm_layer import RBMLayer
from morphogen.families.rbm import RBM
from morphogen.training.distributed import Processes
from morphogen.training.optimizer import PhaseUpdate
from morphogen.training.options import TrainOptions

BITS = TensorSpec("real", (4,), levels=2, layout="vector")
LABEL = {"label": TensorSpec.label(3)}
BUILD = BuildBackbone(MLP)


class Plain:
    """Gradient steps without a trainer, keeping the gradients to look at."""

    def __init__(self, family, lr):
        self.optimizer = torch.optim.SGD(family.parameters(), lr=lr)

    def apply(self):
        self.optimizer.step()


def all_states(num_units: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=num_units)))


def random_layer(num_units: int, num_hidden: int, scale: float = 1.0, **options) -> RBMLayer:
    layer, draw = RBMLayer(num_units, num_hidden, **options), generator(7)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(scale * randn(parameter.shape, draw))
    return layer


def random_rbm(scale: float = 1.0, conditions=None, **options) -> RBM:
    model, draw = RBM(BITS, conditions or {}, BUILD, num_hidden=3, **options), generator(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * randn(parameter.shape, draw))
    return model


def exact_log_likelihood(model: RBM, x: torch.Tensor) -> torch.Tensor:
    log_z = torch.logsumexp(-model.energy(2 * all_states(4) - 1), dim=0)
    return (-model.energy(x) - log_z).mean()


def test_free_energy_sums_the_hidden_units_out():
    layer, v, h = random_layer(4, 3), all_states(4), all_states(3)
    energy = -(v @ layer.visible_bias)[:, None] - h @ layer.hidden_bias - v @ layer.weight @ h.T
    torch.testing.assert_close(layer.free_energy(v), -torch.logsumexp(-energy, dim=1))
    # and the conditionals are those of the same joint
    joint = torch.softmax(-energy.flatten(), 0).view(len(v), len(h))
    hidden = joint @ h / joint.sum(1, keepdim=True)
    torch.testing.assert_close(layer.hidden_probs(v), hidden)
    visible = joint.T @ v / joint.sum(0)[:, None]
    torch.testing.assert_close(layer.visible_mean(h), visible)


def test_label_units_sum_out():
    layer, units = random_layer(4, 3, num_labels=3), all_states(4)
    labels = torch.eye(3)
    each = torch.stack(
        [layer.free_energy(torch.cat([units, y.expand(len(units), -1)], 1)) for y in labels], 1
    )
    torch.testing.assert_close(layer.label_free_energy(units), each)


def test_gaussian_free_energy_is_a_mixture_of_normals():
    # p(v) = sum_h p(h) N(a + W h, sigma^2): the free energy's differences must agree.
    layer, v, h = random_layer(2, 3, gaussian=True), randn((5, 2), generator(0)), all_states(3)
    variance, mean = layer.log_variance.exp(), layer.visible_mean(h)
    weight_of_h = h @ layer.hidden_bias + 0.5 * (
        (mean.square() - layer.visible_bias.square()) / variance
    ).sum(1)
    log_normal = Normal(mean, variance.sqrt()).log_prob(v[:, None]).sum(2)
    mixture = torch.logsumexp(weight_of_h + log_normal, dim=1)
    torch.testing.assert_close(layer.free_energy(v) + mixture, torch.zeros(5) + (
        layer.free_energy(v[:1]) + mixture[:1]))  # fmt: skip


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("num_chains", [0, 6])
@pytest.mark.parametrize("conditions", [{}, LABEL])
def test_hand_written_gradient_is_the_gradient_of_the_loss(visible, num_chains, conditions):
    spec = TensorSpec("real", (1, 2, 2), levels=5)
    model = RBM(spec, conditions, BUILD, num_hidden=3, visible=visible, num_chains=num_chains)
    x = spec.dequantise(randint(5, (8, 1, 2, 2), generator(0)))
    batch = Batch(x, cond={"label": randint(3, (8,), generator(1))} if conditions else {})
    model.prepare(batch, generator(2))
    with torch.no_grad():
        model.layer.weight.copy_(randn(model.layer.weight.shape, generator(3)))
    loss, _ = model.loss(batch, "all", generator(4))
    wanted = torch.autograd.grad(loss.mean(), list(model.parameters()))
    model.step(batch, {"all": Plain(model, lr=0.0)}, generator(4))
    for (name, parameter), grad in zip(model.named_parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, grad, msg=name)


def test_gibbs_sampling_converges_to_the_exact_distribution():
    model = random_rbm(num_chains=0)
    states = all_states(4)
    exact = torch.softmax(-model.energy(2 * states - 1), 0)
    x = model.sample(20_000, generator=generator(0), num_steps=30)
    index = (((x + 1) / 2) @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long()
    found = torch.bincount(index, minlength=16) / len(x)
    torch.testing.assert_close(found, exact, atol=0.012, rtol=0)


def test_filling_draws_from_the_exact_conditional():
    model = random_rbm()
    known = torch.tensor([True, True, False, False])
    x = torch.tensor([1.0, -1.0, 1.0, 1.0]).expand(20_000, -1)
    filled = model.fill(x, known[None], generator=generator(0), num_steps=30)
    assert torch.equal(filled[:, :2], x[:, :2])
    rest = 2 * all_states(2) - 1
    energy = model.energy(torch.cat([x[:4, :2], rest], 1))
    index = (((filled[:, 2:] + 1) / 2) @ torch.tensor([2.0, 1.0])).long()
    found = torch.bincount(index, minlength=4) / len(x)
    torch.testing.assert_close(found, torch.softmax(-energy, 0), atol=0.015, rtol=0)


def test_labels_condition_samples_and_are_predicted_exactly():
    model = random_rbm(conditions=LABEL, num_chains=0)
    states = 2 * all_states(4) - 1
    label = torch.full((20_000,), 2)
    x = model.sample(20_000, cond={"label": label}, generator=generator(0), num_steps=30)
    log_joint = -model.layer.label_free_energy((states + 1) / 2)
    index = (((x + 1) / 2) @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long()
    found = torch.bincount(index, minlength=16) / len(x)
    torch.testing.assert_close(found, torch.softmax(log_joint[:, 2], 0), atol=0.012, rtol=0)
    torch.testing.assert_close(model.predict(states), torch.softmax(log_joint, 1))
    torch.testing.assert_close(-model.energy(states), torch.logsumexp(log_joint, 1))


@pytest.mark.parametrize("num_chains", [0, 64])
def test_training_raises_the_exact_log_likelihood(num_chains):
    torch.manual_seed(0)
    # Two prototypes with one unit in ten turned over: log p of the source is the ceiling.
    prototypes = torch.tensor([[1.0, 1, -1, -1], [-1, 1, -1, 1]])
    draw = generator(0)
    x = prototypes[randint(2, (512,), draw)]
    x = torch.where(rand(x.shape, draw) < 0.1, -x, x)
    distance = ((2 * all_states(4) - 1)[:, None] != prototypes).sum(2)
    source = (0.5 * 0.1**distance * 0.9 ** (4 - distance)).sum(1)
    entropy = -(source * source.log()).sum()
    model = RBM(BITS, {}, BUILD, num_hidden=4, num_chains=num_chains, cd_steps=2)
    model.prepare(Batch(x), draw)
    before = exact_log_likelihood(model, x)
    options = TrainOptions(lr=0.05, beta1=0.5, grad_clip=0)
    update = PhaseUpdate("all", model.named_parameters(), options, Processes())
    for step in range(300):
        update.set_rate(min(1, 2 * (1 - step / 300)))
        model.step(Batch(x[randint(512, (64,), draw)]), {"all": update}, generator(step))
    after = exact_log_likelihood(model, x)
    assert before < -entropy - 0.15
    assert after > -entropy - 0.02


def test_gaussian_units_learn_a_mean_and_a_spread():
    torch.manual_seed(0)
    spec, draw = TensorSpec.vector(2), generator(0)
    x = torch.tensor([2.0, -1.0]) + torch.tensor([0.5, 0.2]) * randn((512, 2), draw)
    model = RBM(spec, {}, BUILD, num_hidden=4)
    model.prepare(Batch(x), draw)
    options = TrainOptions(lr=5e-3, beta1=0.5, grad_clip=0)
    update = PhaseUpdate("all", model.named_parameters(), options, Processes())
    for step in range(200):
        model.step(Batch(x[randint(512, (64,), draw)]), {"all": update}, generator(step))
    drawn = model.sample(2000, generator=generator(1), num_steps=100)
    torch.testing.assert_close(drawn.mean(0), x.mean(0), atol=0.12, rtol=0)
    torch.testing.assert_close(drawn.std(0), x.std(0), atol=0.12, rtol=0)


def test_chains_go_on_across_steps_and_survive_the_state():
    model = random_rbm(num_chains=5)
    model.prepare(Batch(2 * all_states(4) - 1), generator(0))
    before = model.chains.state.clone()
    update = {"all": Plain(model, lr=0.0)}
    model.step(Batch(2 * all_states(4) - 1), update, generator(1))
    assert not torch.equal(model.chains.state, before)
    copy = random_rbm(num_chains=5)
    copy.load_state_dict(model.state_dict())
    first = model.sample(9, generator=generator(2), num_steps=3)
    assert torch.equal(first, copy.sample(9, generator=generator(2), num_steps=3))


def test_chains_of_the_wanted_label_are_chosen_first():
    model = random_rbm(conditions=LABEL, num_chains=6)
    states = 2 * all_states(4)[:6] - 1
    label = torch.tensor([0, 0, 1, 1, 1, 0])  # no chain of class 2
    model.prepare(Batch(states, cond={"label": label}), generator(0))
    chosen = model.chains.choose(50, generator(1), torch.eye(3)[torch.arange(50) % 3])
    found = chosen[:, -3:].argmax(1)
    wanted = torch.arange(50) % 3
    assert torch.equal(found[wanted < 2], wanted[wanted < 2])
    assert len(model.chains.choose(50, generator(2)).unique(dim=0)) == 6


def test_capabilities_follow_the_conditions():
    plain, labelled = random_rbm(), random_rbm(conditions={**LABEL, "size": TensorSpec.vector(1)})
    for capability in (CanReconstruct, CanFill):
        assert not missing(plain, capability)
    assert missing(plain, CanPredict)
    assert not missing(labelled, CanPredict)
    assert list(labelled.conditions) == ["label"]
    z = labelled.encode(2 * all_states(4) - 1)
    assert z.shape == (16, 3)
    assert labelled.decode(z).shape == (16, 4)
    with pytest.raises(RefusedPair):
        plain.sample(2, cond={"label": torch.zeros(2).long()}, generator=generator(0))


def test_tokens_of_two_fit_and_others_are_refused():
    model = RBM(TensorSpec.tokens(6, 2), {}, BUILD, num_hidden=3)
    drawn = model.sample(3, generator=generator(0), num_steps=2)
    assert drawn.dtype == torch.int64
    assert drawn.shape == (3, 6)
    with pytest.raises(RefusedPair, match="autoregressive"):
        RBM(TensorSpec.tokens(6, 5), {}, BUILD)


def test_half_precision_leaves_the_gradient_as_it_is() -> None:
    """It is a difference of means that are nearly equal."""
    layer = random_layer(6, 5)
    v = torch.rand(64, 6, generator=generator(1))
    near = (v + 0.002).clamp(max=1)
    layer.set_gradients(v, near)
    exact = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
    with torch.autocast("cpu", torch.bfloat16):
        layer.set_gradients(v, near)
    assert exact
    for parameter, grad in zip(layer.parameters(), exact, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, grad)
