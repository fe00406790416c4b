"""Rows of a `TokenTransformer` that go on one by one, each by itself: for networks with options
that the compiled step (`_decoding`) does not cover."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.backbones._sequence import Kept
from morphogen.core.conditioning import Context

FIRST_ROOM = 64  # tokens that a row has room for at first; doubled as it grows


class Advancing:
    """`num` rows of up to `room` tokens each: `core.backbone.Rows`."""

    def __init__(self, network: Any, num: int, room: int) -> None:
        self.network, self.room = network, room
        self.kept: list[Kept] = [network.kept(1, 1) for _ in range(num)]
        self.tokens: list[list[int]] = [[] for _ in range(num)]
        self.seen: list[tuple[Tensor | None, Context | None]] = [(None, None)] * num

    def begin(
        self,
        row: int,
        tokens: Tensor,
        cond: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """See `core.backbone.Rows`."""
        self.kept[row] = self.network.kept(1, max(len(tokens), FIRST_ROOM))
        self.tokens[row], self.seen[row] = tokens.tolist(), (cond, context)
        h = self.network.read(tokens[None], self.kept[row], cond, context)[0, -1]
        told: Tensor = self.network.logits(h)
        return told.detach()

    def advance(self, tokens: Sequence[int], rows: Sequence[int]) -> Tensor:
        """See `core.backbone.Rows`."""
        told = []
        for token, row in zip(tokens, rows, strict=True):
            told.append(self.extend(row, torch.tensor([token])))
        return torch.stack(told)

    def extend(self, row: int, tokens: Tensor) -> Tensor:
        """See `core.backbone.Rows`."""
        kept, n = self.kept[row], len(tokens)
        length = len(self.tokens[row])
        if length + n > self.room:
            raise IndexError(f"there is room for {self.room} tokens, and all are taken")
        if length + n + self.network.num_before > kept.room:
            more = (0, 0, 0, max(n, min(length, self.room - length)))
            kept.layers = [(F.pad(key, more), F.pad(value, more)) for key, value in kept.layers]
        self.tokens[row] += tokens.tolist()
        h = self.network.read(tokens[None].to(kept.length.device), kept, *self.seen[row])[0, -1]
        told: Tensor = self.network.logits(h)
        return told.detach()

    def cut(self, row: int, length: int) -> None:
        """See `core.backbone.Rows`."""
        kept, tokens = self.kept[row], self.tokens[row]
        del tokens[length:]
        before = self.network.num_before
        kept.length.fill_(before + len(tokens))
        begins = [place for place, token in enumerate(tokens) if token == self.network.parted_by]
        kept.start.fill_(before + begins[-1] if begins else 0)
        if kept.before is not None:
            num = kept.before.shape[1]
            last = [0] * num + tokens
            kept.before.copy_(torch.tensor([last[len(last) - num :]]))

    def reorder(self, sources: Sequence[int]) -> None:
        """See `core.backbone.Rows`."""
        each: list[list[Any]] = [self.kept, self.tokens, self.seen]
        for lists in each:
            lists[: len(sources)] = [copy.deepcopy(lists[source]) for source in sources]
