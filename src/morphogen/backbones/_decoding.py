r"""A `TokenTransformer` made ready to go on, a few positions of any rows at a time.

What a position gets has the same bits whatever stands beside it, so that a text does not depend on
those that are written with it. Libraries do not promise that: a product with one row and one with
sixteen add up in different orders. `_compiled` does.

Legend: R positions that go on, D model dimension, H heads, K heads of keys and values, E head
dimension, V vocabulary, L layers, M positions kept.
"""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
import torch
from numba.core import event
from torch import Tensor, nn

from morphogen.backbones import _compiled, _drawn
from morphogen.backbones._arranging import arranged, arranged_beside, entry
from morphogen.backbones._lanes import LANES
from morphogen.backbones._products import Array
from morphogen.backbones._sequence import GLU, Kept
from morphogen.core.conditioning import Context
from morphogen.core.writing import Limits

# As numba starts its threads it tells OpenMP, and so PyTorch, to use all that there are.
_num_threads = torch.get_num_threads()
numba.set_num_threads(1)
torch.set_num_threads(_num_threads)

FEW = 48  # tokens at most of a prompt that is read as tokens are that come
AT_ONCE = 1 << 23  # products in a call that draws several tokens: a few milliseconds

_log = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()  # some of numba's pools of threads serve one caller


def covers(network: Any) -> bool:
    """Whether a step computes what this network does: norms before branches, one kind of layers,
    offsets of queries, keys and values at most, and no more of what others published has."""
    layer = network.layers[0]
    options = (
        network.types, network.embed_norm, network.masked_head, network.final_softcap,
        layer.self_attn.softcap, layer.self_attn.o_proj.bias, layer.attention_norm,
    )  # fmt: skip
    return (
        all(option is None for option in options)
        and network.scale == 1
        and network.kinds == [True]
        and network.rotary is network.local_rotary
        and (network.prompt is None or network.parted_by is None)
        and layer.mlp.act == ("silu" if isinstance(layer.mlp, GLU) else "gelu")
    )


_SHARES = np.zeros(0)
_UNDRAWN = _drawn.Draws(
    tokens=np.zeros(0, np.int64), uniform=np.zeros((0, 1)), temperature=_SHARES, min_p=_SHARES,
    top_k=np.zeros(0, np.int64), top_p=_SHARES, num_tokens=0, ends=np.zeros(0, np.int64),
    drawn=np.zeros((0, 1), np.int64), log_probs=np.zeros((0, 1)),
    shares=np.zeros((0, 0), np.float32), order=np.zeros(0, np.int64),
)  # fmt: skip


@contextmanager
def _told_of_compiling() -> Iterator[None]:
    """Say why the first text of all has to wait."""
    if _drawn.go_on.overloads:
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


def made(network: nn.Module) -> tuple[_compiled.Weights, _compiled.Beside]:
    """The weights of `network`, made ready once for as long as they do not change."""
    state = [(p.data_ptr(), p._version) for p in network.parameters()]
    known = _made.get(network)
    if known is None or known[0] != state:
        ready = arranged(network), arranged_beside(network)
        _made[network] = known = (state, ready)
    return known[1]


class Decoding:
    """`num` rows of up to `room` tokens each, that go on side by side: `core.backbone.GoesOn`."""

    def __init__(self, network: Any, num: int, room: int) -> None:
        self.network, self.room, self.before = network, room, network.num_before
        room += self.before
        weights, beside = made(network)
        self.model = _drawn.Model(weights, beside, entry(network))
        size = network.head_dim + -network.head_dim % LANES
        shape = (weights.qkv.shape[0], num, network.num_kv_heads, room, size)
        adds = network.cond_proj is not None
        self.texts = _drawn.Texts(
            tokens=np.zeros((num, room), np.int64),
            starts=np.zeros((num, room), np.int64),
            length=np.zeros(num, np.int64),
            added=np.zeros((num, self.model.entry.tokens.shape[1] if adds else 0), np.float32),
            keys=np.zeros(shape, np.float32),
            values=np.zeros(shape, np.float32),
            boundary=-1 if network.parted_by is None else network.parted_by,
            window=network.window or room,
        )
        self.rooms: dict[int, _compiled.Room] = {}

    @torch.no_grad()
    def begin(
        self,
        row: int,
        tokens: Tensor,
        cond: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """Read `tokens` (n,), n >= 1, as what `row` begins with -> logits of the next (V,)."""
        network, texts, n = self.network, self.texts, len(tokens)
        texts.length[row] = 0
        if network.cond_proj is not None:
            texts.added[row] = network.cond_proj(cond)[0]
        if context is not None and len(self.model.beside.query_bias):
            self._look(row, context)
        kept = network.kept(1, n) if n > FEW or self.before else None
        if n <= FEW:
            if kept is not None:
                self._lay(row, kept)
            return self.advance(tokens.tolist(), [row] * n)[-1]
        assert kept is not None
        h = network.read(tokens[None], kept, cond, context)[0, -1]
        self._lay(row, kept)
        begun = np.where(tokens == texts.boundary, np.arange(n), 0)
        own = slice(self.before, self.before + n)
        texts.tokens[row, own], texts.starts[row, own] = tokens, np.maximum.accumulate(begun)
        logits: Tensor = network.logits(h)
        return logits

    @torch.no_grad()
    def extend(self, row: int, tokens: Tensor) -> Tensor:
        """See `core.backbone.Rows`."""
        network, texts, n = self.network, self.texts, len(tokens)
        self._check_room(np.array([row]), n)
        if n <= FEW or network.cond_proj is not None or len(self.model.beside.query_bias):
            return self.advance(tokens.tolist(), [row] * n)[-1]
        done, size = int(texts.length[row]), network.head_dim
        ngrams = 0 if network.ngrams is None else network.ngrams.most - 1
        last = np.concatenate([np.zeros(ngrams, np.int64), texts.tokens[row, self.before : done]])
        layers = [
            (torch.from_numpy(keys[row : row + 1, :, :, :size]),
             torch.from_numpy(values[row : row + 1, :, :, :size]))  # written in place
            for keys, values in zip(texts.keys, texts.values, strict=True)
        ]  # fmt: skip
        kept = Kept(
            layers, torch.tensor([done]), torch.tensor([int(texts.starts[row, done - 1])]),
            torch.from_numpy(last[len(last) - ngrams :])[None] if ngrams else None,
        )  # fmt: skip
        h = network.read(tokens[None], kept)[0, -1]
        begun = np.where(
            tokens == texts.boundary, np.arange(done, done + n), texts.starts[row, done - 1]
        )
        own = slice(done, done + n)
        texts.tokens[row, own], texts.starts[row, own] = tokens, np.maximum.accumulate(begun)
        texts.length[row] = done + n
        logits: Tensor = network.logits(h)
        return logits

    def _lay(self, row: int, kept: Kept) -> None:
        """Let a row go on after what is kept."""
        texts, size, n = self.texts, self.network.head_dim, int(kept.length)
        for layer, (keys, values) in enumerate(kept.layers):
            texts.keys[layer, row, :, :n, :size] = keys[0, :, :n].numpy()
            texts.values[layer, row, :, :n, :size] = values[0, :, :n].numpy()
        texts.length[row] = n
        texts.tokens[row, : self.before] = texts.starts[row, : self.before] = 0

    def advance(self, tokens: Sequence[int], rows: Sequence[int]) -> Tensor:
        """The next token of each of the rows, of which one may come several times: (R,) -> logits
        of those after them (R, V)."""
        at = np.array(rows, np.int64)
        self._check_room(at)
        room = self._room(len(at))
        room = room._replace(logits=np.empty_like(room.logits))  # given away
        told = _UNDRAWN._replace(tokens=np.array(tokens, np.int64))
        self._call(at, room, told)
        return torch.from_numpy(room.logits[:, : self.network.out_spec.channels])

    def go_on(
        self,
        tokens: Sequence[int],
        rows: Sequence[int],
        limits: Sequence[Limits],
        *,
        uniform: Array,
        num_tokens: int,
        ends: Collection[int],
    ) -> tuple[Array, Array]:
        """See `core.backbone.GoesOn`."""
        at, weights = np.array(rows, np.int64), self.model.weights
        work = len(at) * sum(
            math.prod(x.shape) for x in (weights.qkv, weights.up, weights.down, weights.head)
        )
        most = min(max(AT_ONCE // work, 1), uniform.shape[1])
        self._check_room(at, most)
        draws = _drawn.Draws(
            tokens=np.array(tokens, np.int64),
            uniform=uniform,
            temperature=np.array([each.temperature for each in limits], np.float64),
            min_p=np.array([each.min_p or 0.0 for each in limits]),
            top_k=np.array([each.top_k or num_tokens for each in limits]),
            top_p=np.array([1.0 if each.top_p is None else each.top_p for each in limits]),
            num_tokens=num_tokens,
            ends=np.array(sorted(ends), np.int64),
            drawn=np.empty((len(at), most), np.int64),
            log_probs=np.empty((len(at), most)),
            shares=np.empty((1, num_tokens + LANES), np.float32),
            order=np.empty(num_tokens, np.int64),
        )
        num = self._call(at, self._room(len(at)), draws)
        return draws.drawn[:, :num], draws.log_probs[:, :num]

    def cut(self, row: int, length: int) -> None:
        """Forget what came after the first `length` tokens."""
        self.texts.length[row] = min(self.before + length, self.texts.length[row])

    def reorder(self, sources: Sequence[int]) -> None:
        """Let the first rows go on where `sources` are."""
        each, num, texts = list(sources), len(sources), self.texts
        until = int(texts.length[each].max())
        for kept in (texts.keys, texts.values):
            kept[:, :num, :, :until] = kept[:, each, :, :until]
        beside = self.model.beside
        if len(beside.length):
            for seen in (beside.keys, beside.values):
                seen[:, :num] = seen[:, each]
            beside.length[:num] = beside.length[each]
        for array in (texts.tokens, texts.starts, texts.length, texts.added):
            array[:num] = array[each]

    def _check_room(self, rows: Array, each: int = 1) -> None:
        more = each * np.bincount(rows, minlength=len(self.texts.length))
        if (self.texts.length + more > self.before + self.room).any():
            raise IndexError(f"there is room for {self.room} tokens, and all are taken")

    def _call(self, rows: Array, room: _compiled.Room, draws: _drawn.Draws) -> int:
        with _one_at_a_time, _told_of_compiling():
            numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
            num: int = _drawn.go_on(self.model, self.texts, rows, room, draws)
        return num

    def _look(self, row: int, context: Context) -> None:
        """Keep the keys and values of what there is to see of a context, once for the text."""
        beside = self.model.beside
        seen = context.sequence[:, context.mask[0]]  # (1, M, D)
        num, (layers, rows, *_, size) = seen.shape[1], self.texts.keys.shape
        held = beside.keys.shape[3]
        if num > held:
            shape = (2, layers, rows, self.model.weights.out.shape[2] // size, num, size)
            grown, length = np.zeros(shape, np.float32), np.zeros(rows, np.int64)
            if held:
                grown[..., :held, :] = beside.keys, beside.values
                length = beside.length
            beside = beside._replace(keys=grown[0], values=grown[1], length=length)
            self.model = self.model._replace(beside=beside)
        beside.length[row] = num
        for layer, block in enumerate(self.network.layers):
            key, value = block.cross_attn.looked_for(seen)  # (1, H, M, E)
            beside.keys[layer, row, :, :num, : key.shape[-1]] = key[0]
            beside.values[layer, row, :, :num, : key.shape[-1]] = value[0]

    def _room(self, num: int) -> _compiled.Room:
        """What a step of so many positions writes to; made once."""
        if num in self.rooms:
            return self.rooms[num]
        weights, size = self.model.weights, self.texts.keys.shape[-1]
        logits = np.empty((num, weights.head.shape[1]), np.float32)
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
