"""Items as one line of tokens: there and back, and what a length may be."""

from __future__ import annotations

import torch

from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.encoded import equal
from morphogen.core.spec import ProductSpec, TensorSpec
from morphogen.families._lines import PartsLine, line_of
from morphogen.families.masked import Masked
from morphogen.tasks.fill import fill
from morphogen.testing._promises import draw_data

SIZE = 5
GRAPH = ProductSpec(
    {
        "num": TensorSpec.label(SIZE + 1),
        "nodes": TensorSpec.tokens(SIZE, 4),
        "edges": TensorSpec("token", (SIZE, SIZE), 3),
    },
    lengths={"nodes": "num", "edges": "num"},
    pairs=("edges",),
)
SPECS = (TensorSpec.tokens(6, 4, end=3), TensorSpec.columns((2, 3, 4)), GRAPH)


def test_there_and_back() -> None:
    for spec in SPECS:
        line, x = line_of(spec), draw_data(spec, 20, 0)
        tokens = line.tokens(x)
        assert tokens.shape == (20, line.length)
        assert equal(line.items(tokens), x)


def test_only_what_there_is_is_told() -> None:
    line, x = PartsLine(GRAPH), draw_data(GRAPH, 50, 0)
    n = x["num"]
    assert line.content(line.tokens(x)).sum(1).tolist() == (n + n * (n - 1) // 2).tolist()
    assert not line.content(line.tokens(x))[:, 0].any()


def test_hidden_tokens_are_hidden() -> None:
    """What a network is shown does not depend on what stands behind the mask."""
    line = PartsLine(GRAPH)
    both = [line.tokens(draw_data(GRAPH, 30, seed)) for seed in (0, 1)]
    both[1][:, 0] = both[0][:, 0]  # of one size
    mask = line.vocab_size
    seen = [line.seen(t.masked_fill(line.content(t), mask), mask) for t in both]
    assert equal(GRAPH.canonical(seen[0]), GRAPH.canonical(seen[1]))


def test_what_is_known_of_a_graph_is_kept() -> None:
    build = BuildBackbone(_gnn(), model_dim=16, pair_dim=8, num_layers=1)
    draw = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        family = Masked(GRAPH, {}, build).eval()
    x = draw_data(GRAPH, 40, 3)
    known = {n: torch.rand(v.shape, generator=draw) < 0.5 for n, v in x.items()}
    filled = family.fill(x, known, generator=draw)
    assert all(torch.equal(filled[n][known[n]], x[n][known[n]]) for n in x)
    assert equal(GRAPH.canonical(filled), filled)
    sizes = (filled["num"] != x["num"]).sum()
    assert sizes > 0


def _gnn() -> type:
    from morphogen.backbones.gnn import GNN

    return GNN


def test_columns_are_told_among_their_own_tokens() -> None:
    """A vector of all columns' logits says the same as a vocabulary for each position."""
    spec = TensorSpec.columns((2, 3, 4), ("a", "b", "b"))
    line, x = line_of(spec), draw_data(spec, 20, 0)
    tokens, told = line.tokens(x), torch.randn(20, 9, generator=torch.Generator().manual_seed(0))
    wide = line.logits(told).log_softmax(1)  # (B, V, L)
    assert torch.allclose(wide.exp().sum(1), torch.ones(20, 3))
    expected = wide.gather(1, tokens[:, None])[:, 0]
    assert torch.allclose(line.log_probs(told, tokens), expected, atol=1e-6)


def test_a_joint_law_of_columns_is_learned_and_any_of_them_filled_in() -> None:
    """x_3 = (x_1 + x_2) mod 3, which no pair of columns shows."""
    from morphogen.backbones.mlp import MLP

    spec, draw = TensorSpec.columns((3, 3, 3), ("a", "b", "c")), torch.Generator().manual_seed(0)
    pair = torch.randint(3, (512, 2), generator=draw)
    x = torch.cat([pair, pair.sum(1, keepdim=True) % 3], 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        family = Masked(spec, {}, BuildBackbone(MLP, model_dim=32, num_layers=1))
    optimizer = torch.optim.AdamW(family.parameters(), lr=1e-2)
    for _ in range(150):
        loss = family.loss(Batch(x), "all", draw)[0].mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    drawn = family.sample(300, generator=draw)
    assert ((drawn[:, 0] + drawn[:, 1]) % 3 == drawn[:, 2]).float().mean() > 0.97
    for hidden in ("a", "b", "c"):
        filled = fill(family, x[:100], generator=draw, mask=hidden, num=1).x[1::2]
        assert (filled == x[:100]).float().mean() > 0.97
