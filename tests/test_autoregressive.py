"""Probabilities sum to one, samples follow them, and a Markov chain is learned to its entropy."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from morphogen.backbones.rnn import RNN
from morphogen.backbones.token_transformer import TokenTransformer
from morphogen.backbones.transformer import Transformer
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch, learned_length
from morphogen.core.errors import RefusedPair
from morphogen.core.random import generator, rand, randint, randn
from morphogen.core.spec import TensorSpec
from morphogen.core.writing import Limits
from morphogen.families._by_length import num_groups
from morphogen.families._limits import limited
from morphogen.families._raster import near_and_before
from morphogen.families.autoregressive import Autoregressive
from morphogen.training.distributed import Processes
from morphogen.training.optimizer import PhaseUpdate
from morphogen.training.options import TrainOptions

SMALL = BuildBackbone(Transformer, model_dim=16, num_layers=1)
RECURRENT = BuildBackbone(RNN, model_dim=16, num_layers=1)
THREE = TensorSpec.tokens(4, 3)
LABEL = {"label": TensorSpec.label(2)}


def shaken(spec, conditions=None, backbone=SMALL, **options) -> Autoregressive:
    """A model with random weights everywhere: fresh ones start as the uniform distribution."""
    torch.manual_seed(0)
    model, draw = Autoregressive(spec, conditions or {}, backbone, **options), generator(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * randn(parameter.shape, draw))
    return model.eval()


def all_sequences(length: int, vocab_size: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product(range(vocab_size), repeat=length)))


@pytest.mark.parametrize("backbone", [SMALL, RECURRENT])
@pytest.mark.parametrize("conditions", [{}, LABEL])
def test_probabilities_of_all_sequences_sum_to_one(backbone, conditions):
    model, x = shaken(THREE, conditions, backbone), all_sequences(4, 3)
    for cond in [None, {"label": torch.ones(81).long()}] if conditions else [None]:
        log_p = model.log_prob(x, cond=cond, generator=generator(0))
        torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0))
        assert log_p.std() > 0.1


@pytest.mark.parametrize("head", ["categorical", "logistic"])
def test_probabilities_of_all_pictures_sum_to_one(head):
    spec = TensorSpec("real", (2, 1, 2), levels=3)
    model, index = shaken(spec, head=head), all_sequences(4, 3)
    x = model.from_tokens(index)
    assert torch.equal(model.to_tokens(x), index)
    log_p = model.log_prob(x, generator=generator(0))
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0), atol=1e-4, rtol=0)


def test_channels_of_a_position_stand_next_to_each_other():
    spec = TensorSpec("real", (2, 1, 3), levels=6)
    x = spec.dequantise(torch.tensor([[[[0, 1, 2]], [[3, 4, 5]]]]))
    assert shaken(spec).to_tokens(x).tolist() == [[0, 3, 1, 4, 2, 5]]


@pytest.mark.parametrize("backbone", [SMALL, RECURRENT])
def test_samples_are_as_frequent_as_their_probability(backbone):
    model = shaken(TensorSpec.tokens(3, 3), {}, backbone)
    x = model.sample(20_000, generator=generator(0))
    index = (x * torch.tensor([9, 3, 1])).sum(1)
    found = torch.bincount(index, minlength=27) / len(x)
    exact = model.log_prob(all_sequences(3, 3), generator=generator(0)).exp()
    torch.testing.assert_close(found, exact.detach(), atol=0.012, rtol=0)


def test_values_are_shown_what_is_near_and_before_them():
    places = near_and_before(TensorSpec("real", (1, 3, 4), levels=256))
    assert places.shape == (12, 13)  # two rows of five above, two and its own place in its row
    none = 12
    assert set(places[0].tolist()) == {none}
    assert sorted(places[5].tolist()) == [0, 1, 2, 3, 4] + [none] * 8
    assert sorted(places[11].tolist()) == [1, 2, 3, 5, 6, 7, 9, 10] + [none] * 5
    colour = near_and_before(TensorSpec("real", (2, 3), levels=256))  # two channels in turn
    assert sorted(colour[3].tolist()) == [0, 1, 2, 6, 6, 6]
    volume = near_and_before(TensorSpec("real", (1, 3, 3, 3), levels=256))
    assert all((row[row < 27] < i).all() for i, row in enumerate(volume))
    assert sorted(volume[26][volume[26] < 27].tolist()) == list(range(26))


@pytest.mark.parametrize("backbone", [SMALL, RECURRENT])
@pytest.mark.parametrize("head", ["categorical", "logistic"])
def test_stepping_draws_what_the_whole_forward_draws(monkeypatch, head, backbone):
    model = shaken(TensorSpec("real", (2, 3, 3), levels=5), LABEL, backbone, head=head)
    label = {"label": torch.tensor([0, 1, 1, 0])}
    stepped = model.sample(4, cond=label, generator=generator(0))
    monkeypatch.setattr(backbone.backbone, "step", None)
    assert torch.equal(model.sample(4, cond=label, generator=generator(0)), stepped)


@pytest.mark.parametrize("head", ["categorical", "logistic"])
def test_predict_next_is_the_factor_of_the_likelihood(head):
    spec = TensorSpec("real", (1, 2, 2), levels=4)
    model = shaken(spec, LABEL, head=head)
    x = spec.dequantise(randint(4, (5, 1, 2, 2), generator(0)))
    label, tokens = {"label": torch.tensor([0, 1, 0, 1, 1])}, model.to_tokens(x)
    total = torch.zeros(5)
    for i in range(4):
        log_p = model.predict_next(tokens[:, :i], label).log_softmax(-1)
        assert log_p.shape == (5, 4)
        total = total + log_p.gather(1, tokens[:, i : i + 1])[:, 0]
    torch.testing.assert_close(total, model.log_prob(x, cond=label, generator=generator(0)))
    with pytest.raises(RefusedPair):
        model.predict_next(tokens, label)


def markov_chain(num: int, length: int, stay: tuple[float, float], draw) -> torch.Tensor:
    states = [randint(2, (num,), draw)]
    for _ in range(length - 1):
        keep = rand((num,), draw) < torch.tensor(stay)[states[-1]]
        states.append(torch.where(keep, states[-1], 1 - states[-1]))
    return torch.stack(states, 1)


def test_learns_a_markov_chain_to_its_entropy_rate():
    torch.manual_seed(0)
    stay, length, draw = (0.9, 0.7), 12, generator(0)
    model = Autoregressive(TensorSpec.tokens(length, 2), {}, SMALL)
    options = TrainOptions(lr=1e-2)
    update = {"all": PhaseUpdate("all", model.named_parameters(), options, Processes())}
    for step in range(150):
        model.step(Batch(markov_chain(128, length, stay, draw)), update, generator(step))
    # Exact entropy of the sequence: a fair first state, then each transition's by its frequency.
    binary = [-(p * math.log2(p) + (1 - p) * math.log2(1 - p)) for p in stay]
    share, total = torch.tensor([0.5, 0.5]), 1.0
    matrix = torch.tensor([[stay[0], 1 - stay[0]], [1 - stay[1], stay[1]]])
    for _ in range(length - 1):
        total += float(share @ torch.tensor(binary))
        share = share @ matrix
    held_out = markov_chain(4000, length, stay, generator(99))
    bits = -model.log_prob(held_out, generator=generator(0)).detach().mean() / math.log(2)
    assert total - 0.15 < float(bits) < total + 0.3
    after_one = model.predict_next(torch.ones(1, 5).long()).detach().softmax(-1)[0, 1]
    assert abs(float(after_one) - stay[1]) < 0.08


def test_filling_keeps_what_is_known_and_continues_exactly():
    model = shaken(THREE)
    x = torch.tensor([[2, 0, 1, 1]]).expand(20_000, -1)
    known = torch.tensor([[True, True, False, False]])
    filled = model.fill(x, known, generator=generator(0))
    assert torch.equal(filled[:, :2], x[:, :2])
    rest = all_sequences(2, 3)
    log_p = model.log_prob(torch.cat([x[:9, :2], rest], 1), generator=generator(0))
    found = torch.bincount(filled[:, 2] * 3 + filled[:, 3], minlength=9) / len(x)
    torch.testing.assert_close(found, log_p.softmax(0).detach(), atol=0.012, rtol=0)


def test_padding_does_not_count():
    model = shaken(THREE)
    x = torch.tensor([[0, 1, 2, 2], [0, 1, 0, 1]])
    mask = torch.tensor([[True, True, False, False]] * 2)
    loss, _ = model.loss(Batch(x, mask), "all", generator(0))
    torch.testing.assert_close(loss[0], loss[1])


def test_items_of_about_one_length_are_learned_as_if_each_were_alone():
    """Groups of a batch leave its loss as it is, and its gradient."""
    original = TensorSpec.tokens(24, 7, end=6)
    spec, conditions = TensorSpec.tokens(20, 6, end=5), {"original": original}
    network = BuildBackbone(TokenTransformer, model_dim=16, num_layers=1)
    model = shaken(spec, conditions, network, drop_prob=0.0, cond_dim=16, cond_layers=1).train()
    x, read = randint(6, (70, 20), generator(1)), randint(7, (70, 24), generator(2))
    x, read = spec.canonical(x), original.canonical(read)
    assert len(set(spec.num_real(x).tolist())) > 4

    def learned(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        parts = [Batch(x[own], cond={"original": read[own]}) for own in rows]
        losses = torch.cat([model.loss(part, "all", generator(0))[0] for part in parts])
        losses.sum().backward()
        return losses.detach(), model.network.embed_tokens.weight.grad.clone()

    together, alone = (learned(list(torch.arange(70).split(size))) for size in (70, 10))
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_pictures_and_sounds_that_texts_are_learned_given_are_varied_in_training_alone():
    given = {"sound": TensorSpec("real", (1, 8, 12)), "price": TensorSpec.vector(1)}
    network = BuildBackbone(TokenTransformer, model_dim=16, num_layers=1)
    options = {"drop_prob": 0.0, "cond_stem": "conv", "cond_shift": 2, "cond_mask": 0.4}
    model = shaken(TensorSpec.tokens(5, 6, end=5), given, network, cond_gain=0.2, **options)
    cond = {"sound": randn((3, 1, 8, 12), generator(1)), "price": torch.ones(3, 1)}
    batch = Batch(torch.zeros(3, 5).long(), cond=cond)

    def losses():
        return [model.loss(batch, "all", generator(seed))[0] for seed in (0, 1)]

    assert torch.equal(*losses())
    model.train()
    assert not torch.equal(*losses())
    absent = {**cond, "sound": torch.full((3, 1, 8, 12), math.nan)}  # stays so
    assert model.loss(Batch(batch.x, cond=absent), "all", generator(0))[0].isfinite().all()


def test_limits_cut_the_tail():
    logits = torch.log(torch.tensor([[0.1, 0.5, 0.15, 0.25]]))
    for limits, cut in [
        (Limits(top_k=2), [True, False, True, False]),
        (Limits(top_p=0.6), [True, False, True, False]),
        (Limits(top_p=0.8), [True, False, False, False]),
        (Limits(min_p=0.25), [True, False, False, False]),
        (Limits(temperature=0), [True, False, True, True]),
        (Limits(no_repeat=1), [True, False, True, False]),
        (Limits(no_repeat=2), [False, False, True, False]),
    ]:
        assert limited(logits, limits, [[0, 2, 0]]).isinf()[0].tolist() == cut
    torch.testing.assert_close(limited(logits, Limits(temperature=0.5)), logits * 2)
    halved = limited(logits, Limits(repetition_penalty=2.0), [[1, 1]]).softmax(-1)
    torch.testing.assert_close(halved, torch.tensor([[0.1, 0.25, 0.15, 0.25]]) / 0.75)


def test_what_cannot_be_drawn_value_by_value_is_refused():
    for spec in [
        TensorSpec("real", (1, 8, 8)),
        TensorSpec("real", (3, 64, 64), levels=256),
        TensorSpec("real", (1, 4), levels=65536),
    ]:
        with pytest.raises(RefusedPair, match="vq_vae"):
            Autoregressive(spec, {}, SMALL)
    grid = Autoregressive(TensorSpec("token", (2, 3), vocab_size=5), {}, SMALL)
    assert grid.sample(2, generator=generator(0)).shape == (2, 2, 3)


def test_what_is_learned_ends_at_the_last_token_that_counts() -> None:
    weight = torch.tensor([[0, 1.0, 0, 0], [0, 0, 0, 0], [0.5, 0, 2, 1]])
    assert learned_length(weight).tolist() == [2, 0, 4]


def test_what_has_weight_is_as_probable_as_among_all() -> None:
    small = BuildBackbone(TokenTransformer, model_dim=8, num_layers=1)
    family = Autoregressive(TensorSpec.tokens(200, 7, boundary=6), {}, small).eval()
    x, weight = randint(7, (9, 200), generator(1)), torch.zeros(9, 200)
    for row in range(9):  # of many lengths, so that there are several groups
        weight[row, 10 : 20 * (row + 1)] = 2.0
    weight[3] = 0
    found = family.token_log_prob(x, weight=weight)
    torch.testing.assert_close(found, family.token_log_prob(x) * (weight > 0))


def test_items_are_computed_in_as_many_groups_as_pay() -> None:
    assert num_groups(torch.full((32,), 20)) == 1  # of one length
    assert num_groups(torch.cat([torch.full((16,), 8), torch.full((16,), 60)])) == 2
    assert num_groups(torch.tensor([5])) == 1


def test_smoothing_learns_the_mean_of_all_tokens_in_training_alone() -> None:
    small = BuildBackbone(TokenTransformer, model_dim=8, num_layers=1, ngrams=1)
    spec = TensorSpec.tokens(6, 5, end=4)
    plain = Autoregressive(spec, {}, small)
    smoothed = Autoregressive(spec, {}, small, smoothing=0.2)
    smoothed.load_state_dict(plain.state_dict())
    batch = Batch(spec.canonical(randint(5, (7, 6), generator(1))))
    assert torch.equal(
        smoothed.eval().loss(batch, "all", generator(0))[0],
        plain.eval().loss(batch, "all", generator(0))[0],
    )
    x, real = batch.x, spec.mask(batch.x)
    log_p = plain.network(plain.inputs(x)).log_softmax(1)  # (B, V, L)
    own = log_p.gather(1, x[:, None])[:, 0]
    expected = -((0.8 * own + 0.2 * log_p.mean(1)) * real).sum(1)
    found = smoothed.train().loss(batch, "all", generator(0))[0]
    torch.testing.assert_close(found, smoothed.per_value(expected))
    with pytest.raises(RefusedPair, match="for texts"):
        Autoregressive(TensorSpec("real", (1, 4, 4), levels=16), {}, SMALL, smoothing=0.1)
