"""Documents laid beside those that they are compared with, each in a window of its own.

A document is kept as one, behind the length of its first part:

    n | first: n tokens | second: the rest, or nothing
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.spec import TensorSpec
from morphogen.data.packing import Unpacked


class Pairs(Unpacked):
    """A store of documents, each with the one that it is compared with: see `Batch.other`."""

    def __init__(
        self, spec: TensorSpec, tokens: Any, lengths: Tensor, names: Sequence[str], gap: int
    ) -> None:
        self.begins = lengths.cumsum(0) - lengths
        first = tokens(self.begins).long() >> 1 if len(lengths) else lengths
        self.rest = lengths - first - 1
        super().__init__(spec, tokens, first, names, gap)

    def document(self, number: int) -> tuple[Tensor, Tensor]:
        """The first part."""
        return self._kept(int(self.begins[number]) + 1, int(self.lengths[number]))

    def other(self, index: Tensor) -> Batch:
        """The second parts of the items at `index`; of what has none, nothing has weight."""
        laid = []
        for window in index.tolist():
            start = int(self.begins[window]) + 1 + int(self.lengths[window])
            laid.append(self._laid_out([(self._kept(start, int(self.rest[window])), self.gap)]))
        if not laid:
            empty = torch.empty(0, *self.spec.shape, dtype=torch.int64)
            return Batch(empty, weight=empty.float())
        x, learned = (torch.stack(each) for each in zip(*laid, strict=True))
        return Batch(x, weight=learned * self.scale)
