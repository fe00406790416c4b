"""Conditions: embedded, read in order, dropped, left out, misspelt."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from morphogen.backbones.unet import ContextMixing, UNet
from morphogen.core import discover
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.condition_readers import (
    MOST_POSITIONS,
    Reader,
    patch_of,
    patches,
    start_of_places,
)
from morphogen.core.conditioning import (
    Conditioner,
    Context,
    TimeEmbedding,
    absent,
    check_conditions,
    context_dim,
    present,
)
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.random import generator
from morphogen.core.spec import TensorSpec

END = 0
CONDITIONS = {
    "label": TensorSpec.label(4),
    "caption": TensorSpec.tokens(9, 20, end=END),
    "image": TensorSpec("real", (1, 4, 4)),
    "price": TensorSpec.vector(1),
}


def build() -> Conditioner:
    torch.manual_seed(0)
    conditioner = Conditioner(CONDITIONS, 8)
    with torch.no_grad():
        for i, none in enumerate(conditioner.none.values()):
            none.fill_(float(i + 1))
    return conditioner


def batch(size: int) -> dict[str, Tensor]:
    draw = generator(0)
    return {
        "label": torch.randint(4, (size,), generator=draw),
        "caption": torch.randint(1, 20, (size, 9), generator=draw),
        "image": torch.randn((size, 1, 4, 4), generator=draw),
        "price": torch.randn((size, 1), generator=draw),
    }


NONE = torch.tensor(10.0)  # 1 + 2 + 3 + 4


def test_the_sum_of_what_each_condition_gives() -> None:
    conditioner, cond = build(), batch(3)
    whole = conditioner(cond, 3)
    assert whole.shape == (3, 8)
    alone = sum(conditioner({name: value}, 3) for name, value in cond.items())
    assert torch.allclose(alone, whole + 3 * NONE, atol=1e-4)


def test_absent_conditions_are_the_learned_none() -> None:
    conditioner = build()
    for nothing in (None, {}):
        vector, context = conditioner.both(nothing, 2)
        assert torch.equal(vector, NONE.expand(2, 8))
        assert context is not None
        assert context.mask.all()
        assert context.sequence.shape == (2, 2, 8)  # one "none" for each of caption and image
    vector, context = Conditioner({"label": TensorSpec.label(3)}, 8).both(None, 2)
    assert vector.shape == (2, 8)
    assert context is None


def test_an_item_without_a_condition_is_as_if_nothing_was_said_of_it() -> None:
    conditioner, cond = build(), batch(4)
    for name, spec in CONDITIONS.items():
        given = {name: cond[name].clone()}
        given[name][1] = absent(spec)
        assert present(given[name], spec).tolist() == [True, False, True, True]
        vector, context = conditioner.both(given, 4)
        free, _ = conditioner.both(None, 4)
        torch.testing.assert_close(vector[1], free[1])
        torch.testing.assert_close(vector[0], conditioner({name: cond[name]}, 4)[0])
        assert context is not None
        assert context.mask.sum(1)[1] == 2  # the sinks alone
        vector.sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in conditioner.parameters()), (
            "NaN reaches the gradients"
        )


def test_order_counts() -> None:
    conditioner, cond = build(), batch(3)
    reversed_ = {"caption": cond["caption"].flip(1)}
    caption = {"caption": cond["caption"]}
    (one, seen), (two, other) = conditioner.both(caption, 3), conditioner.both(reversed_, 3)
    assert (one - two).abs().amax(1).min() > 1e-3
    assert seen is not None
    assert other is not None
    # Not even as a set is the sequence the same.
    assert torch.cdist(seen.sequence, other.sequence).amin(2).amax(1).min() > 1e-3
    turned = {"image": cond["image"].transpose(2, 3)}
    same = conditioner(turned, 3) - conditioner({"image": cond["image"]}, 3)
    assert same.abs().max() > 1e-3


def test_what_follows_the_end_changes_nothing() -> None:
    conditioner = build()
    caption = torch.tensor([[5, 6, 7, END, 8, 9, 10, 11, 12], [5, 6, 7] + [END] * 6])
    vector, context = conditioner.both({"caption": caption}, 2)
    torch.testing.assert_close(vector[0], vector[1])
    assert context is not None
    assert context.mask.sum(1).tolist() == [6, 6]  # two sinks, three tokens and the end
    torch.testing.assert_close(
        context.sequence[0, context.mask[0]], context.sequence[1, context.mask[1]]
    )


def test_longer_texts_are_read_token_by_token_where_asked() -> None:
    torch.manual_seed(0)
    spec = TensorSpec.tokens(200, 20, end=END)
    conditioner = Conditioner({"text": spec}, 16, 3, 256)
    assert len(conditioner.embed["text"].layers) == 3
    text = torch.randint(1, 20, (2, 200))
    text[:, -1], text[0, 40:] = END, END
    context = conditioner.both({"text": text}, 2)[1]
    assert context is not None
    assert context.mask.sum(1).tolist() == [42, 201]  # none, the tokens, the end
    alone = conditioner.both({"text": text[:1]}, 1)[1]
    assert alone is not None
    assert alone.sequence.shape[1] == 42  # what is beyond the longest is not computed
    torch.testing.assert_close(alone.sequence[0], context.sequence[0, :42])


def test_what_is_pooled_is_a_vector_of_a_frozen_models_sequence_the_first() -> None:
    torch.manual_seed(0)
    conditions = {**CONDITIONS, "read": TensorSpec("real", (6, 4), layout="sequence")}
    told = {name: conditions[name] for name in ("read", "label")}
    conditioner = Conditioner(told, 8, pooled=True)
    cond = {"read": torch.randn(3, 6, 4), "label": torch.tensor([0, 1, 2])}
    vector, context = conditioner.both(cond, 3)
    read, label = conditioner.embed["read"], conditioner.embed["label"]
    expected = cond["read"][:, :, 0] @ read.weight.T + read.bias + label(cond["label"])
    torch.testing.assert_close(vector, expected)
    assert context is None
    with pytest.raises(RecipeError, match="cond_pooled"):
        Conditioner({"label": CONDITIONS["label"]}, 8, pooled=True)


def test_what_is_read_in_order_is_pooled_to_the_vector_that_it_has_anyway() -> None:
    conditioner, cond = build(), batch(5)
    vector, context = conditioner.both(cond, 5)
    assert context is not None
    assert context_dim(CONDITIONS, 8) == 8
    assert context_dim(CONDITIONS, 8, pooled=True) == 0
    conditioner.pooled = True
    alone, nothing = conditioner.both(cond, 5)
    assert torch.equal(alone, vector)
    assert nothing is None
    assert conditioner.both({"label": cond["label"]}, 5)[1] is None


@pytest.mark.parametrize("name", ["flow_matching", "diffusion"])
def test_a_denoiser_hears_the_first_of_a_caption_and_nothing_else_of_it(name: str) -> None:
    torch.manual_seed(0)
    conditions = {"caption": TensorSpec("real", (6, 4), layout="sequence")}
    build = BuildBackbone(discover.find("backbone", "unet"), model_dim=16, attention_every=1)
    spec = TensorSpec("real", (1, 4, 4))
    family = discover.find("family", name)(spec, conditions, build, cond_dim=16, cond_pooled=True)
    with torch.no_grad():
        for parameter in family.parameters():
            parameter.normal_(std=0.2, generator=generator(2))
    caption, x = torch.randn(3, 6, 4), torch.randn(3, 1, 4, 4)
    one = family.denoise(x, torch.full((3,), 0.7), {"caption": caption})
    for place, heard in ((0, True), (2, False)):
        changed = caption.clone()
        changed[:, :, place] += 1
        other = family.denoise(x, torch.full((3,), 0.7), {"caption": changed})
        assert torch.allclose(one, other) != heard, place


def test_near_places_start_alike() -> None:
    near = start_of_places((100,), 64)
    steps = torch.cdist(near[:1], near)[0]
    assert (steps[1:4].diff() > 0).all()
    assert steps[1] < 0.4 * steps[20:].mean()


def test_dropping_replaces_all_of_an_items_conditions() -> None:
    conditioner, cond = build(), batch(400)
    whole, seen = conditioner.both(cond, 400)
    mixed, left = conditioner.both(cond, 400, 0.25, generator(0))
    dropped = (mixed == NONE).all(1)
    assert torch.equal(mixed[~dropped], whole[~dropped])
    # 25 % of 400, within five standard deviations
    assert abs(int(dropped.sum()) - 100) < 5 * (400 * 0.25 * 0.75) ** 0.5
    assert seen is not None
    assert left is not None
    assert torch.equal(left.mask[~dropped], seen.mask[~dropped])
    assert (left.mask[dropped].sum(1) == 2).all()
    assert torch.equal(conditioner(cond, 400, 1.0, generator(0)), NONE.expand(400, 8))


def test_nothing_is_dropped_without_a_generator() -> None:
    conditioner, cond = build(), batch(5)
    assert torch.equal(conditioner(cond, 5, 0.9), conditioner(cond, 5))


def test_a_misspelt_condition_is_named() -> None:
    with pytest.raises(RefusedPair, match="Did you mean 'label'"):
        check_conditions({"lable": torch.zeros(1)}, CONDITIONS)
    with pytest.raises(RefusedPair, match="unconditional"):
        Conditioner({}, 4)({"label": torch.zeros(1)}, 1)


@pytest.mark.parametrize("space", [(7,), (300,), (5, 9), (64, 48), (4, 20, 20)])
def test_long_conditions_are_read_in_patches(space: tuple[int, ...]) -> None:
    patch = patch_of(space)
    x = torch.randn(2, 3, *space)
    cut = patches(x, patch)
    assert cut.shape[1] <= MOST_POSITIONS
    assert cut.shape[2] == 3 * torch.tensor(patch).prod()
    torch.testing.assert_close(cut.abs().sum((1, 2)), x.flatten(1).abs().sum(1))  # all of it
    assert torch.equal(cut[:, 0, 0], x[(slice(None), 0, *(0,) * len(space))])


def test_a_grid_seen_by_convolutions_has_the_same_places_and_sees_over_their_borders() -> None:
    spec = TensorSpec("real", (2, 9, 24))
    x = torch.randn((1, 2, 9, 24), generator=generator(0))
    x.requires_grad_()
    for stem, beyond in (("patches", False), ("conv", True)):
        torch.manual_seed(0)
        reader = Reader(spec, 8, 0, 32, stem)  # type: ignore[arg-type]
        assert reader.patch == (2, 4)
        sequence, mask, _ = reader(x)
        assert sequence.shape == (1, 5 * 6, 8)
        assert bool(mask.all())
        sequence[0, 8].abs().sum().backward()  # rows 2 and 3, columns 8 to 11
        assert x.grad is not None
        seen, x.grad = x.grad[0].abs().sum(0) > 0, None
        assert bool(seen[2:4, 8:12].any())
        assert bool(seen[:, :8].any()) is bool(seen[4:].any()) is beyond
        assert not seen[7:, :].any()


@pytest.mark.parametrize(
    "name", [n for n in discover.names("backbone") if discover.find("backbone", n).attends]
)
def test_networks_attend(name: str) -> None:
    """Positions that are masked change nothing, others do; without a context a network is as it
    was."""
    kind = discover.find("backbone", name)
    build, grid = BuildBackbone(kind, model_dim=16), TensorSpec("real", (1, 8, 8))
    torch.manual_seed(0)
    x, cond = torch.randn(2, 1, 8, 8), torch.randn(2, 8)
    told = grid
    if kind.refusal(grid, grid):
        grid, told = TensorSpec.tokens(8, 5), TensorSpec("real", (7, 8), layout="sequence")
        x = torch.randint(5, (2, 8))
    network = build(grid, told, 8, context_dim=6).eval()
    for parameter in network.parameters():
        parameter.data.normal_(std=0.1, generator=generator(1))
    mask = torch.tensor([[True, True, False]] * 2)
    sequence = torch.randn(2, 3, 6)
    out = network.run(x, cond, Context(sequence, mask))
    hidden, shown = sequence.clone(), sequence.clone()
    hidden[:, 2] += 1
    shown[:, 1] += 1
    torch.testing.assert_close(network.run(x, cond, Context(hidden, mask)), out)
    assert (network.run(x, cond, Context(shown, mask)) - out).abs().flatten(1).amax(1).min() > 1e-5
    plain = build(grid, told, 8)
    assert plain.context_dim == 0
    assert len(list(plain.parameters())) < len(list(network.parameters()))
    assert plain.run(x, cond, Context(sequence, mask)).shape == out.shape


@pytest.mark.parametrize(("side", "looks"), [(8, []), (16, [0]), (20, [0, 1])])
def test_a_unet_looks_at_a_context_but_never_at_its_finest_resolution(
    side: int, looks: list[int]
) -> None:
    grid = TensorSpec("real", (1, side, side))
    network = UNet(grid, grid, 8, context_dim=6, model_dim=8)
    found = [sum(isinstance(each, ContextMixing) for each in blocks) for blocks in network.after]
    assert found == looks
    assert any(isinstance(each, ContextMixing) for each in network.mid)


def test_a_network_steps_as_it_reads_with_a_context() -> None:
    build = BuildBackbone(discover.find("backbone", "transformer"), model_dim=16, num_layers=2)
    torch.manual_seed(0)
    tokens = TensorSpec.tokens(5, 7)
    network = build(tokens, tokens.with_channels(7), 8, causal=True, context_dim=6).eval()
    for parameter in network.parameters():
        parameter.data.normal_(std=0.1, generator=generator(1))
    x, cond = torch.randint(7, (2, 5)), torch.randn(2, 8)
    context = Context(torch.randn(2, 3, 6), torch.ones(2, 3, dtype=torch.bool))
    whole, state = network.run(x, cond, context), None
    for i in range(5):
        one, state = network.step(x[:, i], cond, state, context)
        torch.testing.assert_close(one, whole[..., i])


@pytest.mark.parametrize("name", ["flow_matching", "diffusion", "autoregressive", "vae", "gan"])
def test_families_learn_from_every_kind_of_condition(name: str) -> None:
    family_class = discover.find("family", name)
    spec, x = TensorSpec("real", (1, 4, 4), levels=4), torch.randint(4, (6, 1, 4, 4)) / 1.5 - 1
    if name == "autoregressive":
        spec, x = TensorSpec.tokens(6, 5, end=4), torch.randint(5, (6, 6))
    build = BuildBackbone(discover.find("backbone", family_class.backbone_for(spec)), model_dim=16)
    torch.manual_seed(0)
    family = family_class(spec, CONDITIONS, build, cond_dim=16)
    x = (
        torch.randint(5, (6, 6))
        if spec.kind == "token"
        else spec.dequantise(torch.randint(4, (6, 1, 4, 4)))
    )
    cond = batch(6)
    for key, each in CONDITIONS.items():
        cond[key][0] = absent(each)
    held = Batch(x, cond=cond)
    family.prepare(held, generator(0))
    for phase in family.phases:
        loss, _ = family.loss(held, phase, generator(0))
        assert loss.isfinite().all()
        loss.mean().backward()
    drawn = family.sample(6, cond=cond, generator=generator(1))
    assert drawn.isfinite().all()
    with torch.no_grad():
        for parameter in family.parameters():
            parameter.normal_(std=0.2, generator=generator(2))
    for key in CONDITIONS:  # each of them is heard
        loss = [
            family.loss(Batch(x, cond=given), family.phases[-1], generator(0))[0][1:]
            for given in (cond, {**cond, key: cond[key].roll(2, 0)})
        ]
        assert not torch.allclose(*loss), key


def test_time_embedding_tells_near_times_apart() -> None:
    embed = TimeEmbedding(32)
    t = torch.linspace(0, 1, 101)
    out = embed(t)
    assert out.shape == (101, 32)
    gaps = torch.cdist(out, out) + torch.eye(101) * 1e3
    assert gaps.min() > 1e-4
