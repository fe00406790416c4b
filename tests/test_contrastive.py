"""What belongs together lies near: losses by their formulas, and pairs that are found again."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from morphogen.backbones.conv import Conv
from morphogen.backbones.mlp import MLP
from morphogen.backbones.token_transformer import TokenTransformer
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.errors import DataError, RecipeError, RefusedPair
from morphogen.core.random import generator, randint, randn
from morphogen.core.spec import TensorSpec
from morphogen.families.contrastive import (
    ConditionReader,
    Contrastive,
    over_batch,
    pair_by_pair,
)

VECTOR, TEXT = TensorSpec.vector(4), TensorSpec.tokens(12, 9, end=8)
NARROW = BuildBackbone(MLP, model_dim=32, num_layers=1)
READER = BuildBackbone(TokenTransformer, model_dim=32, num_layers=1)
ALONE = torch.zeros(5, 0)


def train(model, batch, steps, lr=3e-3):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        loss, parts = model.train().loss(batch, "all", generator(step))
        loss.mean().backward()
        optimizer.step()
    return model.eval(), {name: float(part.mean()) for name, part in parts.items()}


def test_losses_of_embeddings_that_are_known():
    """Orthogonal embeddings, of which each pair is one; then all in one place."""
    s, tau = torch.eye(5), 3.0
    own = torch.eye(5, dtype=torch.bool)
    expected = math.log(1 + 4 * math.exp(-tau))
    torch.testing.assert_close(over_batch(tau * s, own, ALONE), torch.full((5,), expected))
    torch.testing.assert_close(
        over_batch(torch.ones(5, 5), own, ALONE), torch.full((5,), math.log(5))
    )
    right, wrong = -math.log(1 / (1 + math.exp(-(tau - 1)))), math.log1p(math.exp(-1))
    torch.testing.assert_close(
        pair_by_pair(tau * s - 1, own, ALONE), torch.full((5,), right + 4 * wrong)
    )


def test_hard_negatives_count_among_the_items_of_a_condition():
    own, none = torch.eye(5, dtype=torch.bool), torch.zeros(5, 5)
    one = over_batch(none, own, torch.zeros(5, 3))
    torch.testing.assert_close(one, torch.full((5,), (math.log(5) + math.log(8)) / 2))
    two = pair_by_pair(none, own, torch.zeros(5, 3))
    torch.testing.assert_close(two, torch.full((5,), 8 * math.log(2)))
    model = Contrastive(VECTOR, {"to": VECTOR}, NARROW)
    batch = Batch(randn((6, 4), generator(0)), cond={"to": randn((6, 4), generator(1))})
    hard = Batch(batch.x, cond=batch.cond, other=Batch(randn((6, 4), generator(2))))
    easy, harder = (model.loss(each, "all", generator(0))[0] for each in (batch, hard))
    assert (harder > easy).all()


def test_what_is_the_same_belongs_to_all_of_its_items():
    """With as many pairs as there are of two captions, the least loss is reached where the two
    are opposite: log of how many share one."""
    same = torch.tensor([[1, 1, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2, dtype=torch.bool)
    logits = torch.where(same, 50.0, -50.0)
    torch.testing.assert_close(
        over_batch(logits, same, torch.zeros(4, 0)), torch.full((4,), math.log(2))
    )
    model = Contrastive(VECTOR, {"label": TensorSpec.label(3)}, NARROW)
    x = randn((3, 4), generator(0)).repeat_interleave(8, 0)
    label = torch.arange(3).repeat_interleave(8)
    model, parts = train(model, Batch(x, cond={"label": label}), 60, lr=1e-2)
    assert parts["accuracy"] == 1.0
    near = model.encode(x) @ model.encode_condition({"label": torch.arange(3)}).T
    assert torch.equal(near.argmax(1), label)


@pytest.mark.parametrize("form", ["softmax", "sigmoid"])
def test_pairs_are_found_again_in_both_directions(form):
    """Of held-out pairs, by a rule that was learned from others: items and numbers of their own."""
    torch.manual_seed(0)
    x = randn((640, 4), generator(1))
    told = (x @ randn((4, 3), generator(2))).tanh()
    model = Contrastive(VECTOR, {"told": TensorSpec.vector(3)}, NARROW, form=form)
    for start in range(0, 600, 150):
        part = slice(start, start + 150)
        model, _ = train(model, Batch(x[part], cond={"told": told[part]}), 25, lr=1e-2)
    near = model.encode(x[600:]) @ model.encode_condition({"told": told[600:]}).T
    own = torch.arange(40)
    for found in (near, near.T):
        best = found.topk(3, dim=1).indices
        assert (best == own[:, None]).any(1).float().mean() > 0.7
    torch.testing.assert_close(model.encode(x).norm(dim=1), torch.ones(640))


def test_texts_share_an_encoder_whatever_their_lengths():
    titles = TensorSpec.tokens(5, 9, end=8)
    model = Contrastive(TEXT, {"title": titles}, READER).eval()
    assert model.shares
    title = randint(8, (3, 5), generator(0))
    title[:, 4] = 8
    x = torch.cat([title, torch.full((3, 7), 8)], 1)
    torch.testing.assert_close(model.encode(x), model.encode_condition({"title": title}))
    two = Contrastive(TEXT, {"title": titles}, READER, shared=False)
    assert two.reader is not None
    other = TensorSpec.tokens(5, 7, end=6)
    assert not Contrastive(TEXT, {"title": other}, READER).shares
    with pytest.raises(RecipeError, match="the same tokens"):
        Contrastive(TEXT, {"title": other}, READER, shared=True)


def test_pictures_lie_near_what_is_said_of_them():
    """A bar, and a caption that names its place: found in both directions, by captions of which
    one comes several times."""
    torch.manual_seed(0)
    place = randint(6, (120,), generator(0))
    x = 0.1 * randn((120, 1, 8, 8), generator(1))
    x[torch.arange(120), 0, :, place] += 1.0
    caption = torch.full((120, 12), 8)
    caption[:, 0], caption[:, 1] = 6, place
    picture = TensorSpec("real", (1, 8, 8))
    model = Contrastive(
        picture, {"caption": TEXT}, BuildBackbone(Conv, model_dim=16), latent_dim=16, cond_dim=32
    )
    model, _ = train(model, Batch(x[:80], cond={"caption": caption[:80]}), 40)
    near = model.encode(x[80:]) @ model.encode_condition({"caption": caption[80:]}).T
    for found in (near, near.T):
        assert (place[80:][found.argmax(1)] == place[80:]).float().mean() > 0.9


def test_views_are_spans_of_a_text():
    x = torch.arange(8).repeat(200, 1)
    x = torch.cat([x, torch.full((200, 4), 8)], 1)
    model = Contrastive(TEXT, {}, READER, least_kept=0.5)
    seen = model.view(x, generator(0))
    sizes = (seen != 8).sum(1)
    assert set(sizes.tolist()) == {5, 6, 7, 8}
    for row, size in zip(seen.tolist(), sizes.tolist(), strict=True):
        assert row[:size] == list(range(row[0], row[0] + size))
        assert set(row[size:]) == {8}
    empty = torch.full((2, 12), 8)
    assert torch.equal(model.view(empty, generator(0)), empty)


def test_views_of_one_text_are_nearer_than_others():
    """Trained on texts alone: four kinds, of two letters each."""
    torch.manual_seed(0)
    kind = torch.arange(4).repeat(40)
    x = torch.cat([2 * kind[:, None] + randint(2, (160, 11), generator(1)),
                   torch.full((160, 1), 8)], 1)  # fmt: skip
    model, _ = train(Contrastive(TEXT, {}, READER), Batch(x[:120]), 40)
    z = model.encode(x[120:])
    near = (z @ z.T).fill_diagonal_(-1)
    assert (kind[120:][near.argmax(1)] == kind[120:]).float().mean() > 0.9


def test_what_does_not_belong_is_refused_with_what_there_is():
    two = {"title": TEXT, "label": TensorSpec.label(3)}
    with pytest.raises(RefusedPair, match=r"which condition[\s\S]*family.target=title"):
        Contrastive(TEXT, two, READER)
    with pytest.raises(RefusedPair, match="Did you mean 'title'"):
        Contrastive(TEXT, two, READER, target="titel")
    model = Contrastive(TEXT, two, READER, target="title")
    assert model.required == ("title",)
    with pytest.raises(DataError, match="no 'title'"):
        model.encode_condition({"title": torch.full((2, 12), -1)})
    with pytest.raises(RefusedPair, match="items alone"):
        Contrastive(TEXT, {}, READER).encode_condition({})


def test_a_vector_of_the_whole_is_read_linearly() -> None:
    """That of a frozen reader, alone or before those of its positions; a class is looked up."""
    x = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    sequence = TensorSpec("real", (5, 3), layout="sequence")
    for spec, value in ((sequence, x), (TensorSpec.vector(5), x[:, :, 0])):
        made: list[int] = []
        hook = register_module_parameter_registration_hook(
            lambda module, name, parameter, made=made: made.append(parameter.numel())
        )
        read = ConditionReader(spec, 6, dim=8, num_layers=0, first=True)
        hook.remove()
        # A bundle is refused whose network makes more than was saved.
        assert sum(made) == sum(parameter.numel() for parameter in read.parameters())
        whole = value if value.dim() == 2 else value[:, :, 0]
        torch.testing.assert_close(read(value), whole @ read.whole.weight.T + read.whole.bias)
    classes = ConditionReader(TensorSpec.label(3), 6, dim=8, num_layers=0, first=True)
    assert classes(torch.tensor([2, 0])).shape == (2, 6)
