r"""A graph transformer over positions and the relations between every two of them.

    a_ij   = softmax_j (q_i . k_j / sqrt(d) + w . e_ij)
    h_i   <- h_i + sum_j a_ij v_j + W sum_j a_ij e_ij,      h_i <- h_i + mlp(h_i)
    e_ij  <- e_ij + mlp(e_ij + U h_i + U h_j + (P h_i) * (P h_j))

so that what is told of a position, and of a pair, does not depend on the order in which they come:
the positions of the input in another order give the output in that order (Dwivedi & Bresson 2021;
Vignac et al. 2023, whose networks also change both). Relations are symmetric: of an item's pairs
the upper half is read, and of the output both halves say the same.

An item is a graph where its spec has `pairs` (`core.spec.ProductSpec`): parts along the positions,
parts over pairs of them, and parts of the whole, which modulate every layer. From a vector to a
graph positions are learned, as nothing else tells them apart: then the order counts.

Legend: B batch, N positions, D model dimension, E pair dimension, H heads, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.backbones._attention import check_heads
from morphogen.backbones._parts import (
    HEAD_GAIN,
    Modulation,
    VectorHead,
    VectorStem,
    is_vector,
    linear,
    normalise,
    refuses_output,
)
from morphogen.core.backbone import Backbone
from morphogen.core.spec import ProductSpec, Spec, TensorSpec

NEVER = -1e9  # attention to what is not there: finite, for items of nothing


@dataclass(frozen=True)
class Layout:
    """Which parts of a graph run over its N positions, over pairs of them, and over neither."""

    num: int
    nodes: tuple[str, ...]
    pairs: tuple[str, ...]
    others: tuple[str, ...]

    @classmethod
    def of(cls, spec: Spec) -> Layout | None:
        """None for what is no graph."""
        if not isinstance(spec, ProductSpec) or not spec.pairs:
            return None
        sizes = {spec.parts[name].space[0] for name in spec.pairs}
        num = max(sizes)
        rest = [name for name in spec.parts if name not in spec.pairs]
        nodes = tuple(
            name
            for name in rest
            if not is_vector(spec.parts[name]) and spec.parts[name].space[0] == num
        )
        others = tuple(name for name in rest if name not in nodes)
        flat = all(is_vector(spec.parts[name]) for name in others)
        if len(sizes) > 1 or not flat or any(len(spec.parts[n].space) > 1 for n in nodes):
            return None
        return cls(num, nodes, spec.pairs, others)

    def whole(self, spec: ProductSpec) -> ProductSpec:
        """The parts that are neither of positions nor of pairs."""
        return ProductSpec({name: spec.parts[name] for name in self.others})


class GNN(Backbone):
    """A graph transformer: graph to graph, whatever the order of positions; to or from a vector."""

    takes_parts = True

    def __init__(
        self,
        in_spec: Spec,
        out_spec: Spec,
        cond_dim: int = 0,
        causal: bool = False,
        *,
        model_dim: int = 128,  # width of positions
        pair_dim: int = 32,  # width of pairs
        num_layers: int = 4,  # layers, each of attention, and an MLP of positions and of pairs
        num_heads: int | None = None,  # attention heads; none gives heads of 32 features
        dropout_prob: float = 0.0,  # probability of dropping a branch's feature in training
    ) -> None:
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.reads, self.tells = Layout.of(in_spec), Layout.of(out_spec)
        num = (self.reads or self.tells or Layout(1, (), (), ())).num
        num_heads = check_heads(model_dim, num_heads)
        self.stem: nn.Module | None = None
        if self.reads is None:
            self.stem = VectorStem(in_spec, model_dim)
            self.place = nn.Parameter(torch.randn(num, model_dim) * 0.5)
            self.apart = nn.Parameter(torch.randn(num, pair_dim) * 0.5)  # by how far they are apart
            cond_dim += model_dim
        else:
            assert isinstance(in_spec, ProductSpec)
            self.nodes = _stems(in_spec, self.reads.nodes, model_dim)
            self.pairs = _stems(in_spec, self.reads.pairs, pair_dim)
            if self.reads.others:
                self.stem = VectorStem(self.reads.whole(in_spec), model_dim)
                cond_dim += model_dim
        self.layers = nn.ModuleList(
            Layer(model_dim, pair_dim, num_heads, cond_dim, dropout_prob) for _ in range(num_layers)
        )
        self.modulation = Modulation(cond_dim, model_dim)
        if self.tells is not None:
            assert isinstance(out_spec, ProductSpec)
            self.node_heads = _heads(out_spec, self.tells.nodes, model_dim)
            self.pair_heads = _heads(out_spec, self.tells.pairs, pair_dim)
            self.ends = linear(model_dim, pair_dim)  # what pairs are told of both their ends
        whole: Spec = out_spec
        if self.tells is not None and isinstance(out_spec, ProductSpec):
            whole = self.tells.whole(out_spec)
        self.head: VectorHead | None = None
        if self.tells is None or self.tells.others:
            self.head = VectorHead(model_dim + pair_dim, whole)

    @classmethod
    def refuses(cls, in_spec: Any, out_spec: Any, causal: bool = False) -> str | None:
        """One side is a graph; the other one of as many positions, or a vector."""
        if causal:
            return "the pairs of a graph have no order: use transformer or rnn"
        if reason := refuses_output(out_spec):
            return reason
        reads, tells = Layout.of(in_spec), Layout.of(out_spec)
        if reads is None and tells is None:
            return "neither side is a graph, parts of positions and of pairs of them: use mlp"
        if reads is not None and tells is not None:
            same = reads.num == tells.num
            return None if same else f"graphs of {reads.num} and {tells.num} positions differ"
        other = in_spec if reads is None else out_spec
        flat = isinstance(other, TensorSpec) and is_vector(other)
        return None if flat else f"the other side of a graph is a graph or a vector, not {other}"

    def forward(self, x: Any, cond: Tensor | None = None) -> Any:
        """(B, *in), (B, cond_dim) -> (B, *out)."""
        h, e, real, cond = self._begun(x, cond)
        for layer in self.layers:
            h, e = layer(h, e, real, cond)
        scale, shift = self.modulation(cond)
        h = torch.addcmul(shift[:, None], normalise(h, -1), 1 + scale[:, None])
        whole = None if self.head is None else self.head(_pooled(h, e, real))
        if self.tells is None:
            return whole
        ends = self.ends(h)
        e = normalise(e + ends[:, :, None] + ends[:, None], -1)
        found = {} if whole is None else dict(whole)
        for name, head in self.node_heads.items():
            found[_named(name, self.tells.nodes)] = head(h).movedim(-1, 1)  # (B, C, N)
        for name, head in self.pair_heads.items():
            found[_named(name, self.tells.pairs)] = head(e).movedim(-1, 1)  # (B, C, N, N)
        return {name: found[name] for name in self.out_spec.parts}

    def _begun(
        self, x: Any, cond: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Positions (B, N, D), pairs (B, N, N, E), which positions there are (B, N), and what
        modulates the layers."""
        if self.reads is None:
            assert self.stem is not None
            vector = self.stem(x)
            h = vector[:, None] + self.place
            num = len(self.place)
            index = torch.arange(num, device=h.device)
            apart = self.apart[(index[:, None] - index).abs()]
            return h, apart.expand(len(h), -1, -1, -1), None, _both(cond, vector)
        mask = self.in_spec.mask(x)
        real = next((m for name in self.reads.nodes if (m := mask[name]) is not None), None)
        real = None if real is None else real.reshape(len(real), -1)
        pairs = {name: _symmetric(x[name]) for name in self.reads.pairs}
        h = sum(stem(x[_named(n, self.reads.nodes)]) for n, stem in self.nodes.items())
        e = sum(stem(pairs[_named(n, self.reads.pairs)]) for n, stem in self.pairs.items())
        if self.stem is None:
            return h, e, real, cond
        whole = self.stem({name: x[name] for name in self.reads.others})
        return h + whole[:, None], e, real, _both(cond, whole)


class Layer(nn.Module):
    """Attention along pairs, an MLP of positions, an MLP of pairs; each branch starts at zero."""

    def __init__(
        self, dim: int, pair_dim: int, num_heads: int, cond_dim: int, dropout_prob: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = linear(dim, 3 * dim)
        self.bias = linear(pair_dim, num_heads)
        self.out = linear(dim + num_heads * pair_dim, dim, gain=0.0)
        self.inner = linear(dim, 2 * dim)
        self.outer = linear(2 * dim, dim, gain=0.0)
        self.of_ends = linear(dim, 2 * pair_dim)
        self.pair_inner = linear(pair_dim, pair_dim)
        self.pair_outer = linear(pair_dim, pair_dim, gain=0.0)
        self.modulation = Modulation(cond_dim, dim, num=4)
        self.dropout = nn.Dropout(dropout_prob)

    def forward(
        self, h: Tensor, e: Tensor, real: Tensor | None, cond: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(B, N, D), (B, N, N, E) -> the same."""
        scale, shift, scale_inner, shift_inner = (m[:, None] for m in self.modulation(cond))
        seen = normalise(e, -1)
        mixed = self._attention(torch.addcmul(shift, normalise(h, -1), 1 + scale), seen, real)
        h = h + self.dropout(self.out(mixed))
        inner = torch.addcmul(shift_inner, normalise(h, -1), 1 + scale_inner)
        h = h + self.dropout(self.outer(F.silu(self.inner(inner))))
        added, product = self.of_ends(normalise(h, -1)).chunk(2, dim=-1)  # (B, N, E)
        both = added[:, :, None] + added[:, None] + product[:, :, None] * product[:, None]
        e = e + self.dropout(self.pair_outer(F.silu(self.pair_inner(seen) + both)))
        return h, e

    def _attention(self, h: Tensor, e: Tensor, real: Tensor | None) -> Tensor:
        """(B, N, D), (B, N, N, E) -> what each position gathers, (B, N, D + H E)."""
        size = h.shape[:2]
        query, key, value = (
            part.view(*size, self.num_heads, -1).transpose(1, 2) for part in self.qkv(h).chunk(3, 2)
        )  # (B, H, N, D / H)
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        scores = scores + self.bias(e).permute(0, 3, 1, 2)  # (B, H, N, N)
        if real is not None:
            scores = scores.masked_fill(~real[:, None, None], NEVER)
        weights = scores.softmax(-1)
        nodes = (weights @ value).transpose(1, 2).flatten(2)  # (B, N, D)
        pairs = weights.transpose(1, 2) @ e  # (B, N, H, N) (B, N, N, E) -> (B, N, H, E)
        return torch.cat([nodes, pairs.flatten(2)], 2)


class Stem(nn.Module):
    """One part, position by position or pair by pair: tokens embedded, channels mixed."""

    def __init__(self, spec: TensorSpec, dim: int) -> None:
        super().__init__()
        self.is_token = spec.kind == "token"
        self.embed = (
            nn.Embedding(spec.vocab_size or 1, dim) if self.is_token else linear(spec.channels, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, N) or (B, N, N), or with channels second -> (B, N, D) or (B, N, N, D)."""
        return self.embed(x if self.is_token else x.movedim(1, -1))


def _stems(spec: ProductSpec, names: tuple[str, ...], dim: int) -> nn.ModuleDict:
    return nn.ModuleDict({_key(i): Stem(spec.parts[n], dim) for i, n in enumerate(names)})


def _heads(spec: ProductSpec, names: tuple[str, ...], dim: int) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            _key(i): linear(dim, spec.parts[name].channels, gain=HEAD_GAIN)
            for i, name in enumerate(names)
        }
    )


def _key(number: int) -> str:
    """What a part's module is called: names of parts may hold dots, which those of modules must
    not."""
    return f"part{number}"


def _named(key: str, names: tuple[str, ...]) -> str:
    return names[int(key.removeprefix("part"))]


def _symmetric(x: Tensor) -> Tensor:
    """The upper half of pairs, in both halves."""
    upper = x.triu(1)
    return upper + upper.transpose(-1, -2)


def _both(cond: Tensor | None, vector: Tensor) -> Tensor:
    return vector if cond is None else torch.cat([cond, vector], 1)


def _pooled(h: Tensor, e: Tensor, real: Tensor | None) -> Tensor:
    """The means over positions and over pairs that there are: (B, D + E)."""
    if real is None:
        return torch.cat([h.mean(1), e.mean((1, 2))], 1)
    own = real.to(h)
    count = own.sum(1, keepdim=True).clamp(min=1)  # (B, 1)
    nodes = (h * own[..., None]).sum(1) / count
    pairs = torch.einsum("bije,bi,bj->be", e, own, own) / count.square()
    return torch.cat([nodes, pairs], 1)
