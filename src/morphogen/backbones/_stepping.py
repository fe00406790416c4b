"""How a `TokenTransformer` reads a few positions more, after those that it keeps.

Legend: B batch, n new positions, M positions kept, D model dimension, E head dimension, V
vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from morphogen.backbones._advancing import Advancing
from morphogen.backbones._sequence import Kept
from morphogen.core.backbone import Rows
from morphogen.core.conditioning import Context


class Stepping:
    """What goes on from where it is, for the network that has the layers."""

    @torch.no_grad()
    def kept(self: Any, num: int, length: int | None = None) -> Kept:
        """Room for what `num` sequences of up to `length` tokens leave behind."""
        length = self.in_spec.shape[0] if length is None else length
        weight = self.embed_tokens.weight
        shape = (num, self.num_kv_heads, self.num_before + length, self.head_dim)
        none = torch.zeros(num, dtype=torch.int64, device=weight.device)
        kept = Kept(
            [(weight.new_zeros(shape), weight.new_zeros(shape)) for _ in range(self.num_layers)],
            none, none.clone(),
            None if self.ngrams is None else self.ngrams.before(num, weight.device),
        )  # fmt: skip
        if self.prompt is not None:
            first = none[:, None].expand(num, self.num_before)
            self._keep(self.prompt.expand(num, -1, -1), kept, first)
        return kept

    def rows(self: Any, num: int, room: int | None = None) -> Rows:
        """`num` sequences that go on side by side, on a CPU."""
        from morphogen.backbones._decoding import Decoding, covers  # compiling takes a second

        kind = Decoding if covers(self) else Advancing
        return kind(self, num, room or self.in_spec.shape[0])

    @torch.no_grad()
    def advance(
        self: Any, x: Tensor, kept: Kept, cond: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """(B, n) tokens that follow what is `kept`, each row at its own place -> (B, n, V).

        Keys and values are written in place; `kept.length` moves on by n.
        """
        told: Tensor = self.logits(self.read(x, kept, cond, context))
        return told

    @torch.no_grad()
    def read(
        self: Any, x: Tensor, kept: Kept, cond: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """As `advance`, but what the head reads: (B, n, D)."""
        new = x.shape[1]
        places = kept.places(new)
        ngrams = None
        if self.ngrams is not None and kept.before is not None:
            both = torch.cat([kept.before, x], dim=1)
            ngrams = self.ngrams(both)[:, -new:]
            kept.before = both[:, new:]
        h = self._embedded(x, ngrams, cond, places)
        read: Tensor = self._keep(h, kept, kept.starts(x, places, self.parted_by), context)
        return read

    def _keep(
        self: Any, h: Tensor, kept: Kept, first: Tensor, context: Context | None = None
    ) -> Tensor:
        """What enters at the next places (B, n, D), each of which sees nothing before `first`
        (B, n) -> what the head reads."""
        places = kept.places(h.shape[1])
        until = int(places.max()) + 1
        keys = torch.arange(until, device=h.device)
        reach = until if self.window is None else self.window
        seen = (keys >= first[..., None]) | (keys < self.num_before)
        seen = seen & (keys <= places[..., None])  # (B, n, M)
        near = seen & (keys > places[..., None] - reach)
        rotations = self._rotations(places[:, None])  # (B, 1, n, E / 2)
        for layer, pair in zip(self._each_layer(), kept.layers, strict=True):
            looked = near if layer.is_local else seen
            h = layer.advance(
                h, rotations[layer.is_local], pair=pair, places=places, seen=looked[:, None],
                context=context,
            )  # fmt: skip
        kept.length = kept.length + h.shape[1]
        told: Tensor = self.norm(h)
        return told

    @torch.no_grad()
    def step(
        self: Any,
        token: Tensor,
        cond: Tensor | None = None,
        state: Any = None,
        context: Context | None = None,
    ) -> tuple[Tensor, Any]:
        """token (B,) at the next position -> logits (B, V) there, new state: see `advance`."""
        assert self.causal, "only a causal network can step"
        state = self.kept(len(token)) if state is None else state
        return self.advance(token[:, None], state, cond, context)[:, 0], state
