"""Rows of any causal network, for those that keep no rows of their own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class SteppedRows:
    """Rows of any causal network, each stepped by itself, or read anew for every token."""

    def __init__(self, family: Any, num: int) -> None:
        self.family, self.room = family, family.num_tokens
        self.tokens: list[Tensor] = [torch.zeros(0)] * num  # each (1, L)
        self.length, self.states = [0] * num, list[Any]([None] * num)
        self.seen: list[tuple[Any, Any]] = [(None, None)] * num

    def begin(
        self, row: int, tokens: Tensor, cond: Tensor | None = None, context: Any = None
    ) -> Tensor:
        """See `core.backbone.Rows`."""
        held = tokens.new_zeros(1, self.room)
        held[0, : len(tokens) - 1] = tokens[1:]  # the start token is known
        self.tokens[row], self.seen[row] = held, (cond, context)
        self.length[row], self.states[row] = 0, None
        for _ in range(len(tokens)):
            told = self._step(row)
        return told

    def advance(self, tokens: Sequence[int], rows: Sequence[int]) -> Tensor:
        """See `core.backbone.Rows`."""
        told = []
        for token, row in zip(tokens, rows, strict=True):
            self.tokens[row][0, self.length[row] - 1] = token
            told.append(self._step(row))
        return torch.stack(told)

    def extend(self, row: int, tokens: Tensor) -> Tensor:
        """See `core.backbone.Rows`."""
        return torch.stack([self.advance([token], [row])[0] for token in tokens.tolist()])[-1]

    def cut(self, row: int, length: int) -> None:
        """See `core.backbone.Rows`."""
        if length < self.length[row]:
            start = self.tokens[row].new_zeros(1)
            self.begin(row, torch.cat([start, self.tokens[row][0, : length - 1]]), *self.seen[row])

    def reorder(self, sources: Sequence[int]) -> None:
        """See `core.backbone.Rows`."""
        each: list[list[Any]] = [self.tokens, self.length, self.states, self.seen]
        for lists in each:
            lists[: len(sources)] = [copy.deepcopy(lists[source]) for source in sources]

    def _step(self, row: int) -> Tensor:
        family, i, (cond, context) = self.family, self.length[row], self.seen[row]
        self.length[row] += 1
        step = getattr(family.network, "step", None)
        if step is None:
            inputs = family.inputs(self.tokens[row])
            return family.network.run(inputs, cond, context)[0, :, i]
        seen = {"context": context} if family.network.context_dim else {}
        told, self.states[row] = step(
            family.input_at(self.tokens[row], i), cond, self.states[row], **seen
        )
        return told[0]
