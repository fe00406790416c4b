"""Classification and regression recover rules that are known."""

from __future__ import annotations

import pytest
import torch

from morphogen.backbones.conv import Conv
from morphogen.backbones.mlp import MLP
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.errors import DataError, RefusedPair
from morphogen.core.random import generator, randint, randn
from morphogen.core.spec import TensorSpec
from morphogen.families.supervised import Supervised

VECTOR = TensorSpec.vector(4)
LABEL = TensorSpec.label(3)
SPECS = [
    TensorSpec("real", (2, 12), layout="sequence"),
    TensorSpec("real", (1, 8, 8), levels=17),
    TensorSpec("real", (1, 4, 4, 6)),
    VECTOR,
    TensorSpec.tokens(9, 5),
]
MLP_BUILD = BuildBackbone(MLP, model_dim=32, num_layers=1)


def train(model, batch, steps, lr=3e-3):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    draw = generator(0)
    model.prepare(batch, draw)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss, parts = model.loss(batch, "all", draw)
        loss.mean().backward()
        optimizer.step()
    model.eval()
    return parts


def test_classification_recovers_a_linear_rule():
    torch.manual_seed(0)
    rule = randn((4, 3), generator(1))
    x = randn((1000, 4), generator(2))
    label = (x @ rule).argmax(1)
    model = Supervised(VECTOR, {"label": LABEL}, MLP_BUILD, feature_dim=16)
    parts = train(model, Batch(x[:600], cond={"label": label[:600]}), 150)
    assert parts["accuracy"].shape == (600,)
    probs = model.predict(x[600:])
    assert probs.shape == (400, 3)
    torch.testing.assert_close(probs.sum(1), torch.ones(400))
    assert (probs.argmax(1) == label[600:]).float().mean() > 0.95


def test_probabilities_are_those_of_the_noise():
    """Labels that ignore the item: the best prediction is how often each occurs."""
    torch.manual_seed(0)
    x = torch.zeros(400, 4)
    label = torch.tensor([0] * 240 + [1] * 120 + [2] * 40)
    model = Supervised(VECTOR, {"label": LABEL}, MLP_BUILD, feature_dim=16)
    train(model, Batch(x, cond={"label": label}), 200, lr=1e-2)
    expected = torch.tensor([0.6, 0.3, 0.1])
    torch.testing.assert_close(model.predict(x[:1])[0], expected, atol=0.01, rtol=0)
    smooth = Supervised(VECTOR, {"label": LABEL}, MLP_BUILD, feature_dim=16, label_smoothing=0.3)
    train(smooth, Batch(x, cond={"label": label}), 200, lr=1e-2)
    torch.testing.assert_close(smooth.predict(x[:1])[0], 0.7 * expected + 0.1, atol=0.01, rtol=0)


def test_regression_recovers_a_linear_rule_in_any_unit():
    torch.manual_seed(0)
    x = randn((1000, 4), generator(2))
    price = 50_000 + 10_000 * (x @ torch.tensor([[1.0, 0.0], [0.5, 1.0], [0.0, -1.0], [0.0, 0.0]]))
    price[:, 1] /= 1e6
    model = Supervised(
        VECTOR, {"price": TensorSpec.vector(2)}, MLP_BUILD, target="price", feature_dim=32
    )
    train(model, Batch(x[:800], cond={"price": price[:800]}), 300)
    residual = model.predict(x[800:]) - price[800:]
    explained = 1 - residual.square().mean(0) / price[800:].var(0)
    assert (explained > 0.98).all()


def test_other_conditions_are_inputs():
    """The label is the parity of a hint that the item does not show."""
    torch.manual_seed(0)
    conditions = {"label": TensorSpec.label(2), "hint": TensorSpec.label(4)}
    hint = randint(4, (200,), generator(0))
    batch = Batch(torch.zeros(200, 4), cond={"label": hint % 2, "hint": hint})
    model = Supervised(VECTOR, conditions, MLP_BUILD, feature_dim=16)
    train(model, batch, 120, lr=1e-2)
    assert (model.predict(batch.x, {"hint": hint}).argmax(1) == hint % 2).all()
    assert model.predict(batch.x[:2]).shape == (2, 2)  # and absent is allowed
    with pytest.raises(RefusedPair, match="no condition 'label'"):
        model.predict(batch.x, {"label": hint})  # the answer is no input


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_any_spec_gives_features_and_rebuilds_itself(spec):
    torch.manual_seed(0)
    kind = {"mlp": MLP, "conv": Conv}[Supervised.backbone_for(spec)]
    build = BuildBackbone(kind, model_dim=16)
    conditions = {"label": LABEL}
    model = Supervised(spec, conditions, build, feature_dim=7)
    shape = (12, *spec.shape)
    x = randint(5, shape, generator(0)) if spec.kind == "token" else randn(shape, generator(0))
    batch = Batch(x, cond={"label": torch.arange(12) % 3})
    before = model.loss(batch, "all", generator(0))[0].mean()
    train(model, batch, 40)
    assert model.loss(batch, "all", generator(0))[0].mean() < before
    assert model.features(x).shape == (12, 7)
    again = Supervised(spec, conditions, build, feature_dim=7)
    again.load_state_dict(model.state_dict())
    assert torch.equal(model.predict(x), again.eval().predict(x))


def test_augmentation_shifts_and_mirrors_whole_items():
    spec = TensorSpec("real", (2, 5, 6))
    model = Supervised(
        spec, {"label": LABEL}, BuildBackbone(Conv, model_dim=8), max_shift=1, flip_prob=0.5
    )
    x = randn((1, 2, 5, 6), generator(0))
    rows = [(torch.arange(5) + shift).clamp(0, 4) for shift in (-1, 0, 1)]
    columns = [(torch.arange(6) + shift).clamp(0, 5) for shift in (-1, 0, 1)]
    columns += [5 - column for column in columns]
    allowed = torch.stack([x[0][:, row][:, :, column] for row in rows for column in columns])
    drawn = model.variation(x.expand(400, -1, -1, -1), generator(1))
    seen = (drawn[:, None] == allowed).all(-1).all(-1).all(-1)  # (400, 18)
    assert seen.any(1).all()
    assert seen.any(0).all()


def test_augmentation_is_for_training_alone():
    spec = TensorSpec("real", (1, 8, 8))
    model = Supervised(
        spec, {"label": LABEL}, BuildBackbone(Conv, model_dim=8), max_shift=3, flip_prob=0.5
    ).eval()
    batch = Batch(randn((4, 1, 8, 8), generator(0)), cond={"label": torch.zeros(4).long()})
    losses = [model.loss(batch, "all", generator(seed))[0] for seed in (0, 1)]
    assert torch.equal(*losses)


def test_missing_targets_are_refused_with_what_there_is():
    with pytest.raises(RefusedPair, match="class folder"):
        Supervised(VECTOR, {}, MLP_BUILD)
    with pytest.raises(RefusedPair, match=r"Did you mean 'label'[\s\S]*family.target=label"):
        Supervised(VECTOR, {"label": LABEL}, MLP_BUILD, target="labels")
    with pytest.raises(RefusedPair, match="autoregressive"):
        Supervised(VECTOR, {"text": TensorSpec.tokens(5, 9)}, MLP_BUILD, target="text")
    model = Supervised(VECTOR, {"label": LABEL}, MLP_BUILD)
    with pytest.raises(DataError, match="no 'label'"):
        model.loss(Batch(torch.zeros(2, 4)), "all", generator(0))
