r"""A `TokenTransformer` made ready to go on, a few positions of any rows at a time.

What a position gets has the same bits whatever stands beside it, so that a text does not depend on
those that are written with it. Libraries do not promise that: a product with one row and one with
sixteen add up in different orders. `_compiled` does.

Legend: R positions that go on, D model dimension, H heads, K heads of keys and values, E head
dimension, V vocabulary, L layers, M positions kept.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
import torch
import torch.nn.functional as F
from numba.core import event
from torch import Tensor, nn

from morphogen.backbones import _compiled
from morphogen.backbones._lanes import LANES
from morphogen.backbones._sequence import EPS, GLU
from morphogen.core.conditioning import Context

# As numba starts its threads it tells OpenMP, and so PyTorch, to use all that there are.
_num_threads = torch.get_num_threads()
numba.set_num_threads(1)
torch.set_num_threads(_num_threads)

_log = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()  # some of numba's pools of threads serve one caller


def covers(network: Any) -> bool:
    """Whether a step computes what this network does: norms before branches, offsets nowhere, one
    kind of layers, and none of the options that came with what others published."""
    layer, options = network.layers[0], (
        network.types, network.embed_norm, network.masked_head, network.final_softcap,
        network.layers[0].self_attn.softcap, network.layers[0].self_attn.q_proj.bias,
        network.layers[0].attention_norm,
    )  # fmt: skip
    return (
        all(option is None for option in options)
        and network.scale == 1
        and network.kinds == [True]
        and network.rotary is network.local_rotary
        and layer.mlp.act == ("silu" if isinstance(layer.mlp, GLU) else "gelu")
    )


def _arranged(network: Any) -> _compiled.Weights:
    """A second copy of the weights, in the order in which a step reads them."""
    layers, size = list(network.layers), network.head_dim
    attention, mlp = [layer.self_attn for layer in layers], [layer.mlp for layer in layers]
    gated = isinstance(mlp[0], GLU)
    norms = [norm for x in layers for norm in (x.input_layernorm, x.post_attention_layernorm)]
    heads = [norm for x in attention for norm in (x.q_norm, x.k_norm) if norm is not None]
    told = network.embed_tokens.weight[: network.out_spec.channels]
    nothing = torch.zeros(0, size // 2)
    return _compiled.Weights(
        qkv=_stacked([
            _whole_heads(torch.cat([x.q_proj.weight, x.k_proj.weight, x.v_proj.weight]), size)
            for x in attention
        ]),
        out=_stacked([_whole_heads(x.o_proj.weight.mT, size).mT for x in attention]),
        up=_stacked([
            torch.cat([_padded(x.gate_proj.weight, 0), _padded(x.up_proj.weight, 0)])
            if gated else _padded(x.up_proj.weight, 0) for x in mlp
        ]),
        down=_stacked([x.down_proj.weight for x in mlp]),
        norms=_norms([*norms, network.norm]),
        head_norms=_norms(heads) if heads else _NONE,
        cos=_array(nothing if network.rotary is None else network.rotary.cos),
        sin=_array(nothing if network.rotary is None else network.rotary.sin),
        head=_array(_padded(told if network.lm_head is None else network.lm_head.weight)),
        gated=gated,
        size=size,
    )  # fmt: skip


def _arranged_beside(network: Any) -> _compiled.Beside | None:
    """The same of attention to a context before there is one; None where no layer looks at any."""
    branches = [layer.cross_attn for layer in network.layers if layer.cross_attn is not None]
    size, dim = network.head_dim, network.embed_tokens.embedding_dim
    if not branches:
        return None
    return _NOTHING._replace(
        norms=_norms([nn.LayerNorm(dim, EPS)]),
        query=_stacked([_whole_heads(x.query.weight, size) for x in branches]),
        query_bias=_stacked([_whole_heads(x.query.bias, size) for x in branches]),
        head_norms=_norms([x.query_norm for x in branches]),
        out=_stacked([_whole_heads(x.out.weight.mT, size).mT for x in branches]),
        out_bias=_stacked([x.out.bias for x in branches]),
    )


def _norms(norms: Sequence[Any]) -> _compiled.Norms:
    scale = torch.stack([norm.weight for norm in norms])
    shifts = [getattr(norm, "bias", None) for norm in norms]
    shift = [torch.zeros_like(scale[0]) if each is None else each for each in shifts]
    is_centred = isinstance(norms[0], nn.LayerNorm)
    eps = norms[0].eps
    return _compiled.Norms(_array(_padded(scale)), _stacked(shift), is_centred, eps, scale.shape[1])


def _whole_heads(weight: Tensor, size: int) -> Tensor:
    """Rows (heads x E, *), E padded to whole lanes."""
    heads = weight.reshape(-1, size, *weight.shape[1:]).movedim(1, -1)
    return _padded(heads).movedim(-1, 1).flatten(0, 1)


def _stacked(weights: Sequence[Tensor]) -> _compiled.Array:
    return _array(_padded(torch.stack(list(weights))))


def _padded(weight: Tensor, axis: int = -1) -> Tensor:
    """With zeros up to whole lanes."""
    more = -weight.shape[axis] % LANES
    return F.pad(weight, (0, more) if axis == -1 else (0, 0, 0, more))


def _array(x: Tensor) -> _compiled.Array:
    return x.detach().contiguous().numpy()


_EMPTY = [np.zeros((0,) * dims, np.float32) for dims in range(6)]
_NONE = _compiled.Norms(_EMPTY[2], _EMPTY[2], False, EPS, 0)
_NOTHING = _compiled.Beside(
    _NONE, _EMPTY[3], _EMPTY[2], _NONE, _EMPTY[3], _EMPTY[2], _EMPTY[5], _EMPTY[5],
    np.zeros(0, np.int64),
)  # fmt: skip


@contextmanager
def _told_of_compiling() -> Iterator[None]:
    """Say why the first text of all has to wait."""
    if _compiled.step.overloads:
        yield
        return
    with event.install_listener("numba:compile", _Told()):
        yield


class _Told(event.Listener):  # type: ignore[misc]
    def __init__(self) -> None:
        self.is_told = False

    def on_start(self, event: Any) -> None:
        if not self.is_told:
            _log.warning("compiling what writes texts, once: the next time it is there")
        self.is_told = True

    def on_end(self, event: Any) -> None:
        pass


_made: weakref.WeakKeyDictionary[nn.Module, tuple[Any, Any]] = weakref.WeakKeyDictionary()


def made(network: nn.Module) -> tuple[_compiled.Weights, _compiled.Beside | None]:
    """The weights of `network`, made ready once for as long as they do not change."""
    state = [(p.data_ptr(), p._version) for p in network.parameters()]
    known = _made.get(network)
    if known is None or known[0] != state:
        ready = _arranged(network), _arranged_beside(network)
        _made[network] = known = (state, ready)
    return known[1]


class Decoding:
    """`num` rows of up to `room` tokens each, that go on side by side: `core.backbone.Rows`."""

    def __init__(self, network: Any, num: int, room: int) -> None:
        self.network, self.room = network, room
        self.weights, self.beside = made(network)
        size = network.head_dim + -network.head_dim % LANES
        shape = (len(self.weights.qkv), num, network.num_kv_heads, room, size)
        self.keys, self.values = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.embeddings = _array(network.embed_tokens.weight)
        ngrams = () if network.ngrams is None else network.ngrams.tables
        self.ngram_tables = [_array(table.weight) for table in ngrams]
        self.tokens: list[list[int]] = [[] for _ in range(num)]
        self.starts: list[list[int]] = [[] for _ in range(num)]  # of each token's document
        self.added: list[Tensor | None] = [None] * num  # what conditions add, (D,)
        self.rooms: dict[int, _compiled.Room] = {}
        self.boundary = None if network.across_documents else network.in_spec.boundary

    @torch.no_grad()
    def begin(
        self,
        row: int,
        tokens: Tensor,
        cond: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """Read `tokens` (n,), n >= 1, as what `row` begins with -> logits of the next (V,)."""
        network, n = self.network, len(tokens)
        kept = network.kept(1, n)
        h = network.read(tokens[None], kept, cond, context)[0, -1]
        size = network.head_dim
        for layer, (keys, values) in enumerate(kept.layers):
            self.keys[layer, row, :, :n, :size] = keys[0].numpy()
            self.values[layer, row, :, :n, :size] = values[0].numpy()
        self.tokens[row], self.starts[row] = [], []
        for token in tokens.tolist():
            self._note(row, token)
        if network.cond_proj is not None:
            self.added[row] = network.cond_proj(cond)[0]
        if context is not None and self.beside is not None:
            self._look(row, context)
        logits: Tensor = network.logits(h)
        return logits

    @torch.no_grad()
    def advance(self, tokens: Sequence[int], rows: Sequence[int]) -> Tensor:
        """The next token of each of the rows, of which one may come several times: (R,) -> logits
        of those after them (R, V)."""
        places = []
        for token, row in zip(tokens, rows, strict=True):
            if len(self.tokens[row]) == self.room:
                raise IndexError(f"there is room for {self.room} tokens, and all are taken")
            places.append(len(self.tokens[row]))
            self._note(row, token)
        window = self.network.window or self.room
        firsts = [
            max(self.starts[row][place], place - window + 1)
            for row, place in zip(rows, places, strict=True)
        ]
        ends = [place + 1 for place in places]
        kept = _compiled.Seen(self.keys, self.values, *map(np.array, (rows, firsts, ends)))
        room = self._room(len(rows))
        self._embed(room.h[:, : self.weights.norms.dim], rows, places)
        with _one_at_a_time, _told_of_compiling():
            numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
            _compiled.step(self.weights, self.beside or _NOTHING, kept, np.array(places), room)
        return torch.from_numpy(room.logits)

    def cut(self, row: int, length: int) -> None:
        """Forget what came after the first `length` tokens."""
        del self.tokens[row][length:], self.starts[row][length:]

    def reorder(self, sources: Sequence[int]) -> None:
        """Let the first rows go on where `sources` are."""
        each, num = list(sources), len(sources)
        until = max(len(self.tokens[source]) for source in each)
        for kept in (self.keys, self.values):
            kept[:, :num, :, :until] = kept[:, each, :, :until]
        if self.beside is not None:
            for seen in (self.beside.keys, self.beside.values):
                seen[:, :num] = seen[:, each]
            self.beside.length[:num] = self.beside.length[each]
        for lists in (self.tokens, self.starts):
            lists[:num] = [list(lists[source]) for source in each]
        self.added[:num] = [self.added[source] for source in each]

    def _note(self, row: int, token: int) -> None:
        starts = self.starts[row]
        before = starts[-1] if starts else 0
        starts.append(len(starts) if token == self.boundary else before)
        self.tokens[row].append(token)

    def _look(self, row: int, context: Context) -> None:
        """Keep the keys and values of what there is to see of a context, once for the text."""
        assert self.beside is not None
        seen = context.sequence[:, context.mask[0]]  # (1, M, D)
        num, (layers, rows, *_, size) = seen.shape[1], self.keys.shape
        held = self.beside.keys.shape[3]
        if num > held:
            shape = (2, layers, rows, self.weights.out.shape[2] // size, num, size)
            grown, length = np.zeros(shape, np.float32), np.zeros(rows, np.int64)
            if held:
                grown[..., :held, :] = self.beside.keys, self.beside.values
                length = self.beside.length
            self.beside = self.beside._replace(keys=grown[0], values=grown[1], length=length)
        self.beside.length[row] = num
        for layer, block in enumerate(self.network.layers):
            key, value = block.cross_attn.looked_for(seen)  # (1, H, M, E)
            self.beside.keys[layer, row, :, :num, : key.shape[-1]] = key[0]
            self.beside.values[layer, row, :, :num, : key.shape[-1]] = value[0]

    def _room(self, num: int) -> _compiled.Room:
        """What a step of so many positions writes to; made once, but for what is given away."""
        logits = np.empty((num, len(self.weights.head)), np.float32)
        if num in self.rooms:
            return self.rooms[num]._replace(logits=logits)
        weights, size = self.weights, self.keys.shape[-1]
        widths = {
            "h": weights.qkv.shape[2],
            "normed": weights.qkv.shape[2],
            "qkv": weights.qkv.shape[1],
            "asked": weights.out.shape[2],
            "mixed": weights.out.shape[2],
            "up": weights.up.shape[1],
        }
        made = {name: np.zeros((num, width), np.float32) for name, width in widths.items()}
        heads, asked = (made[name].reshape(-1, size) for name in ("qkv", "asked"))
        self.rooms[num] = _compiled.Room(**made, heads=heads, asked_heads=asked, logits=logits)
        return self.rooms[num]

    def _embed(self, h: _compiled.Array, rows: Sequence[int], places: Sequence[int]) -> None:
        """What enters the first layer: (R, D)."""
        network, pairs = self.network, list(zip(rows, places, strict=True))
        most = len(self.ngram_tables) + 1
        last = np.array([
            [0] * (most - place - 1) + self.tokens[row][max(place + 1 - most, 0) : place + 1]
            for row, place in pairs
        ])  # fmt: skip
        now, *earlier = last.T[::-1]
        h[:] = self.embeddings[now]
        if network.ngrams is not None:
            for table, slot in zip(
                self.ngram_tables, network.ngrams.rows_of(now, earlier), strict=True
            ):
                h += table[slot]
        if network.places is not None:
            h += network.places.weight[list(places)].numpy()
        if network.cond_proj is not None:
            h += torch.stack([x for row in rows if (x := self.added[row]) is not None]).numpy()
