"""Walks on a grid: a line of moves (N, E, S, W) is an item, as a sequence of tokens with an end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.errors import DataError
from morphogen.core.spec import TensorSpec
from morphogen.sources import Record, Wants, opened, recognise, records

MOVES = "NESW"
END = len(MOVES)
WANTS = Wants("walk", suffixes=frozenset({".walk"}))


class ToyWalk(Codec):
    """Walks on a grid, from .walk files, wherever these lie."""

    family = "autoregressive"  # where the user names none
    unit = "move"

    def __init__(
        self,
        *,
        length: int = 16,  # moves of a walk, at most
    ) -> None:
        self.length = length

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        return recognise(source, WANTS)

    @classmethod
    def recognises_cells(cls, values: Sequence[Any]) -> Recognition | None:
        walks = all(isinstance(value, str) and set(value) <= set(MOVES) for value in values)
        return Recognition(0.95, "walks") if values and walks else None

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        for item in opened(records(source, WANTS, report), self._open, report):
            report.num_read += 1
            yield item

    def _open(self, record: Record, notes: Report) -> str:
        walk = record.value().decode("ascii", "replace").strip()
        if not walk or set(walk) - set(MOVES):
            raise DataError("it is no walk", hint=f"write it with {', '.join(MOVES)} only")
        return str(walk)

    def fit(self, items: Iterable[Item]) -> ToyWalk:
        longest = max(len(item.value) for item in items)
        self.spec = TensorSpec.tokens(min(longest, self.length) + 1, END + 1, end=END)
        return self

    def encode(self, item: Item) -> Tensor:
        tokens = [MOVES.index(move) for move in item.value][: self.spec.shape[0] - 1]
        return torch.tensor(tokens + [END] * (self.spec.shape[0] - len(tokens)))

    def decode(self, x: Tensor) -> str:
        return "".join(MOVES[i] for i in x[x.ne(END).cumprod(0).bool()].tolist())

    def num_units(self, x: Tensor) -> Tensor:
        return x.ne(END).sum(1).clamp(min=1).float()

    def state(self) -> dict[str, Any]:
        return {"length": self.length, "spec": self.spec.to_json()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ToyWalk:
        codec = cls(length=state["length"])
        codec.spec = TensorSpec.from_json(state["spec"])
        return codec
