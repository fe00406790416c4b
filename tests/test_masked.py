"""The masked model: its bound against sums over all masks, its draws against its own chances."""

from __future__ import annotations

import itertools
import math

import torch

from morphogen.backbones.token_transformer import TokenTransformer
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.random import generator
from morphogen.core.spec import Run, TensorSpec
from morphogen.families.masked import Masked
from morphogen.testing._promises import perturb

torch.set_num_threads(1)

SMALL = BuildBackbone(TokenTransformer, model_dim=16, num_layers=1, num_heads=2)
PLAIN = TensorSpec.tokens(3, 2)
ENDED = TensorSpec.tokens(5, 4, end=3)


def model(spec: TensorSpec, **options: object) -> Masked:
    torch.manual_seed(0)
    family = Masked(spec, {}, SMALL, **options)
    perturb(family)
    return family.eval()


def all_items() -> torch.Tensor:
    return torch.tensor(list(itertools.product(range(2), repeat=3)))


def by_all_orders(family: Masked) -> torch.Tensor:
    """p(x) of the model that tells one token after the other, in random order: (8,)."""
    x, total = all_items(), torch.zeros(8)
    for order in itertools.permutations(range(3)):
        seen, log_p = torch.full_like(x, 2), torch.zeros(8)
        for place in order:
            told = family._told(seen, x, (None, None))
            log_p, seen[:, place] = log_p + told[:, place], x[:, place]
        total += log_p.exp() / 6
    return total


def by_all_masks(family: Masked) -> torch.Tensor:
    """The bound with every mask instead of a few: (8,)."""
    x, total = all_items(), torch.zeros(8)
    for k in (1, 2, 3):
        subsets = list(itertools.combinations(range(3), k))
        for hidden in subsets:
            seen = x.clone()
            seen[:, list(hidden)] = 2
            told = family._told(seen, x, (None, None))[:, list(hidden)].sum(1)
            total += told * (3 / k) / len(subsets) / 3
    return total


@torch.no_grad()
def test_the_bound_is_the_mean_over_all_masks_and_below_the_likelihood() -> None:
    family = model(PLAIN, num_masks=400)
    exact = by_all_masks(family)
    found = family.log_prob(all_items(), generator=generator(0))
    torch.testing.assert_close(found, exact, rtol=0, atol=0.1)
    assert (exact <= by_all_orders(family).log() + 1e-5).all()


@torch.no_grad()
def test_with_as_many_steps_as_tokens_draws_follow_the_model() -> None:
    family, num = model(PLAIN), 20_000
    drawn = family.sample(num, generator=generator(0), num_steps=3)
    counts = torch.bincount((drawn * torch.tensor([4, 2, 1])).sum(1), minlength=8).float()
    expected = by_all_orders(family) * num
    assert float(((counts - expected) ** 2 / expected).sum()) < 24.3  # chi^2 of 7, p = 0.001


@torch.no_grad()
def test_lengths_come_as_often_as_in_the_data() -> None:
    family = model(ENDED)
    x = torch.tensor([[0, 3, 3, 3, 3], [1, 2, 0, 3, 3]]).repeat(400, 1)
    family.prepare(Batch(x), generator(0))
    drawn = family.sample(2000, generator=generator(1))
    ends = (drawn == 3).long().cumsum(1).eq(0).sum(1)
    shares = torch.bincount(ends, minlength=6) / 2000
    assert abs(float(shares[1]) - 0.5) < 0.05
    assert abs(float(shares[3]) - 0.5) < 0.05
    assert torch.equal(drawn, ENDED.canonical(drawn))


@torch.no_grad()
def test_gaps_are_filled_between_what_is_known() -> None:
    """Neither before the last known token nor after the first known end."""
    family = model(ENDED)
    x = torch.tensor([[0, 1, 2, 0, 3]]).repeat(50, 1)
    known = torch.tensor([[True, False, True, False, True]])
    drawn = family.fill(x, known, generator=generator(0))
    assert torch.equal(drawn[:, [0, 2, 4]], x[:, [0, 2, 4]])
    assert (drawn[:, 1] != 3).all()
    assert 0 < int((drawn[:, 3] == 3).sum()) < 50  # it may end there, or not


def test_it_learns_what_stands_beside_a_gap() -> None:
    """Pairs of equal tokens: one tells the other."""
    family = model(TensorSpec.tokens(2, 5)).train()
    optimizer = torch.optim.Adam(family.parameters(), 1e-2)
    for step in range(150):
        x = torch.randint(5, (64, 1), generator=generator(step)).expand(-1, 2)
        loss = family.loss(Batch(x), "all", generator(step))[0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    family.eval()
    x = torch.arange(5)[:, None].expand(-1, 2)
    filled = family.fill(x * torch.tensor([1, 0]), torch.tensor([[True, False]]),
                         generator=generator(0), temperature=0.0)  # fmt: skip
    assert torch.equal(filled, x)
    assert abs(float(loss.detach()) - math.log2(5) / 2) < 0.15


RUNS = TensorSpec.interleaved([Run("a", 1, 0, 2), Run("b", 2, 2, 2)])


def told_part_after_part(family: Masked) -> torch.Tensor:
    """The bound where whole parts are told one after the other, in random order of both: (8,)."""
    x, total = all_items() + torch.tensor([0, 2, 2]), torch.zeros(8)
    orders = [(0, 1, 2), (0, 2, 1), (1, 2, 0), (2, 1, 0)]
    for order in orders:
        seen = torch.full_like(x, family.mask)
        for place in order:
            told = family._told(seen, x, (None, None))
            total, seen[:, place] = total + told[:, place] / len(orders), x[:, place]
    return total


@torch.no_grad()
def test_parts_are_told_whole_and_each_position_holds_its_own_tokens() -> None:
    family = model(RUNS, whole_parts=1.0, num_masks=400)
    x = all_items() + torch.tensor([0, 2, 2])
    found = family.log_prob(x, generator=generator(0))
    torch.testing.assert_close(found, told_part_after_part(family), rtol=0, atol=0.1)
    drawn = family.sample(200, generator=generator(1))
    allowed = RUNS.allowed
    assert allowed is not None
    assert allowed[torch.arange(3), drawn].all()
    assert len(drawn.unique(dim=0)) == 8
    loss, parts = family.loss(Batch(x), "all", generator(2))
    shares = (parts["a"] * 1 + parts["b"] * 2) / 3  # bits per token of each: what the loss is of
    torch.testing.assert_close(shares, loss)
