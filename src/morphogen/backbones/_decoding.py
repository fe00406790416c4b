r"""A `TokenTransformer` made ready to go on, a few positions of any rows at a time.

What a position gets has the same bits whatever stands beside it, so that a text does not depend on
those that are written with it. Libraries do not promise that: a product with one row and one with
sixteen add up in different orders. Here every product has a form whose rows do not depend on their
number (`Product`), attention looks at each row's own keys alone, and vectors are padded to whole
registers, since the rest of a loop is computed by other instructions.

It is also the fast form: queries, keys and values from one product, gates and what they gate from
another, norms folded into the weights that follow, neighbouring features turned by their angle as
complex numbers, and keys and values written where they stay.

Legend: R positions that go on, D model dimension, H heads, K heads of keys and values, E head
dimension, V vocabulary.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.backbones._sequence import EPS, SwiGLU

MOST_ROWS = 16  # positions multiplied at once
LEAST_ROWS = 4  # from so many rows on, a plain product's rows do not depend on their number
SMALL = 1 << 16  # weights of a product for which a call takes longer than reading them
REGISTERS = 16  # numbers that a loop over a vector takes at once
TRIED = 128  # rows of a matrix by which its forms are told apart

Form = Callable[[Tensor], Tensor]

_EPS = torch.tensor(EPS, device="cpu")  # bundles are opened, and this imported, on "meta"


class Product:
    """x (R, in) -> x W^T (R, out). A row's bits do not depend on R, unless told otherwise: then
    one row alone takes the form that was faster."""

    def __init__(self, weight: Tensor, exact: bool = True) -> None:
        self.shape, weight = tuple(weight.shape), weight.detach().contiguous()
        self.form, self.run = next(
            (name, form)
            for name, build in (("small", _small), ("packed", _packed), ("alone", _alone))
            if (form := build(weight)) is not None and (name == "alone" or _holds(build, weight))
        )
        self.least = LEAST_ROWS if self.form == "small" else 1
        if not exact and self.form == "packed":
            self._try_alone(weight)

    def __call__(self, x: Tensor) -> Tensor:
        return self.run(x)

    def _try_alone(self, weight: Tensor) -> None:
        packed, transposed = self.run, weight.mT.contiguous()
        x = torch.randn(1, weight.shape[1], generator=torch.Generator().manual_seed(0))
        forms = {"packed": packed, "transposed": lambda x: x @ transposed}
        times = {name: min(_seconds(form, x) for _ in range(3)) for name, form in forms.items()}
        if times["transposed"] < times["packed"]:
            self.form = "transposed, packed"
            self.run = lambda x: x @ transposed if len(x) == 1 else packed(x)


def _small(weight: Tensor) -> Form | None:
    """A plain product, called with `LEAST_ROWS` at least."""
    if weight.numel() > SMALL:
        return None
    num = len(weight)
    transposed = F.pad(weight, (0, 0, 0, -num % REGISTERS)).mT.contiguous()
    if num % REGISTERS:
        return lambda x: torch.mm(x, transposed)[:, :num]
    return lambda x: torch.mm(x, transposed)


def _packed(weight: Tensor) -> Form | None:
    """Weights in the order in which oneDNN reads them, packed for many rows: it then takes the same
    path for few."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not has_onednn or weight.dtype != torch.float32:
        return None
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, MOST_ROWS)
    except (RuntimeError, AttributeError):
        return None
    run: Any = torch.ops.mkldnn._linear_pointwise.default
    return lambda x: run(x, packed, None, "none", [], "")


def _alone(weight: Tensor) -> Form:
    """Each row by itself."""
    transposed = weight.mT.contiguous()
    return lambda x: torch.cat([row @ transposed for row in torch.split(x, 1)])


def _holds(build: Callable[[Tensor], Form | None], weight: Tensor) -> bool:
    """Whether, on this machine, rows of this form depend neither on their number nor on where they
    stand."""
    form, least = build(weight[:TRIED].contiguous()), LEAST_ROWS if build is _small else 1
    assert form is not None
    x = torch.randn(MOST_ROWS, weight.shape[1], generator=torch.Generator().manual_seed(0))
    together = form(x)
    return all(
        torch.equal(form(x[first : first + rows].contiguous()), together[first : first + rows])
        for rows in range(least, MOST_ROWS)
        for first in (0, 1, MOST_ROWS - rows)
    )


def _seconds(form: Form, x: Tensor) -> float:
    begun = perf_counter()
    form(x)
    return perf_counter() - begun


class Weights:
    """The weights of a network in the form that goes on."""

    def __init__(self, network: Any, exact: bool) -> None:
        attention = network.layers[0].self_attn
        self.num_kv, self.head_dim = network.num_kv_heads, network.head_dim
        self.num_heads = attention.q_proj.out_features // self.head_dim
        self.grouped = self.num_heads > self.num_kv
        half = torch.arange(self.head_dim // 2)
        together = torch.stack([half, half + self.head_dim // 2], 1).flatten()
        self.order = None if network.cos is None else together  # a pair's features side by side
        self.turns = self._turns(network)  # (L, H + 2 K, E / 2), complex
        self.layers = [self._layer(layer, exact) for layer in network.layers]
        self.norm, head = _folded(network.norm)
        told = network.embed_tokens.weight[: network.out_spec.channels]
        self.head = Product(
            head(told if network.lm_head is None else network.lm_head.weight), exact
        )
        self.least = max(product.least for layer in self.layers for product in layer[:4])

    def _turns(self, network: Any) -> Tensor | None:
        if network.cos is None:
            return None
        angles = torch.complex(network.cos, network.sin)[:, None]  # (L, 1, E / 2)
        turned = angles.expand(-1, self.num_heads + self.num_kv, -1)
        still = torch.ones_like(angles).expand(-1, self.num_kv, -1)
        return torch.cat([turned, still], 1)

    def _layer(self, layer: Any, exact: bool) -> tuple[Any, ...]:
        attention, mlp = layer.self_attn, layer.mlp
        normed, fold = _folded(layer.input_layernorm)
        query, key = (self._paired(p.weight) for p in (attention.q_proj, attention.k_proj))
        qkv = Product(fold(torch.cat([query, key, attention.v_proj.weight])), exact)
        out = Product(attention.o_proj.weight, exact)
        then, fold = _folded(layer.post_attention_layernorm)
        more = -mlp.up_proj.out_features % REGISTERS  # features that are zero
        parts = (mlp.gate_proj, mlp.up_proj) if isinstance(mlp, SwiGLU) else (mlp.up_proj,)
        up = Product(torch.cat([F.pad(fold(p.weight), (0, 0, 0, more)) for p in parts]), exact)
        down = Product(F.pad(mlp.down_proj.weight, (0, more)), exact)
        scales = None
        if attention.q_norm is not None:
            both = (attention.q_norm, self.num_heads), (attention.k_norm, self.num_kv)
            own = [self._paired(norm.weight[:, None]).mT.expand(num, -1) for norm, num in both]
            scales = torch.cat(own).detach()  # (H + K, E)
        return qkv, out, up, down, normed, then, len(parts) > 1, scales

    def _paired(self, weight: Tensor) -> Tensor:
        """Rows (heads x E, *) with the features of each pair next to each other."""
        if self.order is None:
            return weight
        heads = weight.view(-1, self.head_dim, *weight.shape[1:])
        return heads[:, self.order].flatten(0, 1)


def _folded(norm: nn.Module) -> tuple[Form, Form]:
    """A norm, and how the weights that read it change: they take over an RMSNorm's own."""
    if isinstance(norm, nn.LayerNorm):
        return norm, lambda weight: weight
    scale: Any = norm.weight
    return _rms, lambda weight: weight * scale


def _rms(x: Tensor) -> Tensor:
    """x / sqrt(mean x^2 + eps): (R, D)."""
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x * torch.addcmul(_EPS, norm, norm, value=1 / x.shape[1]).rsqrt_()


_made: weakref.WeakKeyDictionary[nn.Module, tuple[Any, Weights]] = weakref.WeakKeyDictionary()


def made(network: nn.Module, exact: bool) -> Weights:
    """The weights of `network`, made ready once for as long as they do not change."""
    state = (exact, *((p.data_ptr(), p._version) for p in network.parameters()))
    known = _made.get(network)
    if known is None or known[0] != state:
        _made[network] = known = (state, Weights(network, exact))
    return known[1]


class Decoding:
    """`num` rows of up to `room` tokens each, that go on side by side: `core.backbone.Rows`."""

    @torch.no_grad()
    def __init__(self, network: Any, num: int, room: int, exact: bool = True) -> None:
        self.network, self.weights, self.room = network, made(network, exact), room
        length = -(-room // REGISTERS) * REGISTERS  # rows begin where registers do
        shape = (num, 2 * self.weights.num_kv, length, self.weights.head_dim)
        self.kept = [torch.zeros(shape) for _ in self.weights.layers]  # keys, then values
        self.pairs = [torch.split(kept, self.weights.num_kv, 1) for kept in self.kept]
        self.tokens: list[list[int]] = [[] for _ in range(num)]
        self.starts: list[list[int]] = [[] for _ in range(num)]  # of each token's document
        self.added: list[Tensor | None] = [None] * num  # what conditions add, (D,)
        self.boundary = None if network.across_documents else network.in_spec.boundary

    def describe(self) -> dict[str, str]:
        """Which form each shape of product takes: {"out x in": form}."""
        products = [*(p for layer in self.weights.layers for p in layer[:4]), self.weights.head]
        return {f"{p.shape[0]} x {p.shape[1]}": p.form for p in products}

    @torch.no_grad()
    def begin(
        self, row: int, tokens: Tensor, cond: Tensor | None = None, context: None = None
    ) -> Tensor:
        """Read `tokens` (n,), n >= 1, as what `row` begins with -> logits of the next (V,)."""
        network, n = self.network, len(tokens)
        kept = network.kept(1, n)
        h = network.read(tokens[None], kept, cond)[0, -1]
        for buffer, (keys, values) in zip(self.kept, kept.layers, strict=True):
            order = self.weights.order
            ordered = keys[0] if order is None else keys[0, ..., order]
            buffer[row, :, :n] = torch.cat([ordered, values[0]])
        self.tokens[row], self.starts[row] = [], []
        for token in tokens.tolist():
            self._note(row, token)
        if network.cond_proj is not None:
            self.added[row] = network.cond_proj(cond)[0]
        logits: Tensor = network.logits(h)
        return logits

    @torch.no_grad()
    def advance(self, tokens: Sequence[int], rows: Sequence[int]) -> Tensor:
        """The next token of each of the rows, of which one may come several times: (R,) -> logits
        of those after them (R, V)."""
        parts = []
        for i in range(0, len(rows), MOST_ROWS):
            part = slice(i, i + MOST_ROWS)
            for token, row in zip(tokens[part], rows[part], strict=True):
                if len(self.tokens[row]) == self.room:
                    raise IndexError(f"there is room for {self.room} tokens, and all are taken")
                self._note(row, token)
            parts.append(self._advance(rows[part]))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def cut(self, row: int, length: int) -> None:
        """Forget what came after the first `length` tokens."""
        del self.tokens[row][length:], self.starts[row][length:]

    def reorder(self, sources: Sequence[int]) -> None:
        """Let the first rows go on where `sources` are."""
        until = max(len(self.tokens[source]) for source in sources)
        for buffer in self.kept:
            buffer[: len(sources), :, :until] = buffer[list(sources), :, :until]
        for lists in (self.tokens, self.starts):
            lists[: len(sources)] = [list(lists[source]) for source in sources]
        self.added[: len(sources)] = [self.added[source] for source in sources]

    def _note(self, row: int, token: int) -> None:
        starts = self.starts[row]
        before = starts[-1] if starts else 0
        starts.append(len(starts) if token == self.boundary else before)
        self.tokens[row].append(token)

    def _advance(self, rows: Sequence[int]) -> Tensor:
        """Compute the last token of each row: as many as the row comes times."""
        left = {row: rows.count(row) for row in rows}
        places = []
        for row in rows:
            places.append(len(self.tokens[row]) - left[row])
            left[row] -= 1
        window = self.network.window or self.room
        spans = [
            (max(self.starts[row][place], place - window + 1), place + 1)
            for row, place in zip(rows, places, strict=True)
        ]
        h, weights = self._embedded(rows, places), self.weights
        h = _at_least(weights.least, h)
        num, num_heads = len(rows), weights.num_heads
        turns = None if weights.turns is None else weights.turns[places]
        for layer, kept, pair in zip(weights.layers, self.kept, self.pairs, strict=True):
            qkv, out, up, down, normed, then, gated, scales = layer
            new = self._turned(qkv.run(normed(h))[:num], turns, scales)  # (R, H + 2 K, E)
            for row, place, own in zip(rows, places, new[:, num_heads:], strict=True):
                kept[row].select(1, place).copy_(own)
            mixed = self._mixed(new[:, :num_heads].unsqueeze(2), pair, rows, spans)
            h.add_(out.run(_at_least(len(h), mixed)))
            h.add_(down.run(_active(up.run(then(h)), gated)))
        told = weights.norm(_at_least(weights.head.least, h[:num]))
        return weights.head.run(told)[:num]

    def _embedded(self, rows: Sequence[int], places: list[int]) -> Tensor:
        network = self.network
        most = 1 if network.ngrams is None else network.ngrams.most
        last = [
            [0] * (most - place - 1) + self.tokens[row][max(place + 1 - most, 0) : place + 1]
            for row, place in zip(rows, places, strict=True)
        ]
        h: Tensor = network.embed_tokens.weight[[each[-1] for each in last]]
        if network.ngrams is not None:
            h = h + network.ngrams(torch.tensor(last))[:, -1]
        if network.places is not None:
            h = h + network.places.weight[places]
        if network.cond_proj is not None:
            h = h + torch.stack([added for row in rows if (added := self.added[row]) is not None])
        return h

    def _turned(self, qkv: Tensor, turns: Tensor | None, scales: Tensor | None) -> Tensor:
        """(R, (H + 2 K) E) -> (R, H + 2 K, E), queries and keys normalised and turned."""
        heads = qkv.view(len(qkv), -1, self.weights.head_dim)
        if scales is not None:
            scaled = heads[:, : len(scales)]
            scaled.copy_(F.rms_norm(scaled, scaled.shape[-1:], eps=EPS) * scales)
        if turns is None:
            return heads
        pairs = torch.view_as_complex(heads.view(*heads.shape[:2], -1, 2))
        if pairs[0].numel() % REGISTERS:
            turned = torch.stack([p * t for p, t in zip(pairs, turns, strict=True)])
        else:
            turned = pairs * turns
        return torch.view_as_real(turned).flatten(-2)

    def _mixed(
        self,
        query: Tensor,
        pair: tuple[Tensor, ...],
        rows: Sequence[int],
        spans: list[tuple[int, int]],
    ) -> Tensor:
        """Queries (R, H, 1, E) over each row's own keys and values -> (R, H E)."""
        found, i = [], 0
        for (first, until), group in itertools.groupby(spans):
            num = len(list(group))
            same = rows[i : i + num]
            in_turn = list(same) == list(range(same[0], same[0] + num))
            for part in [num] if in_turn else [1] * num:
                row = rows[i]
                key, value = (kept[row : row + part, :, first:until] for kept in pair)
                found.append(
                    F.scaled_dot_product_attention(
                        query[i : i + part], key, value, enable_gqa=self.weights.grouped
                    )
                )
                i += part
        return (found[0] if len(found) == 1 else torch.cat(found)).flatten(1)


def _at_least(rows: int, x: Tensor) -> Tensor:
    """(R, D), zeros below it where there are fewer rows."""
    return x if len(x) >= rows else torch.cat([x, x.new_zeros(rows - len(x), x.shape[1])])


def _active(x: Tensor, gated: bool) -> Tensor:
    """silu(gate) * up of (R, 2 F), or gelu of (R, F)."""
    if not gated:
        return F.gelu(x, approximate="tanh")
    gate, up = x.view(len(x), 2, -1).unbind(1)
    return F.silu(gate).mul_(up)
