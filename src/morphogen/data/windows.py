"""Windows of one long stream of tokens: what a corpus is stored as.

A codec says so by an attribute `windows` (how many tokens a window has, None for items as they are)
and a method `encode_stream(item) -> (tokens,)`. The streams of all items follow one another in the
order of the source; window i holds the tokens i L to (i + 1) L - 1, and is called `ITEM@OFFSET` by
where its first token stands. Windows do not overlap, so that those of the test split are the text
itself, each token once; what is left at the end is shorter than a window: no item, but kept as the
stream's `tail`, since it is text.
Training takes the windows in shuffled order, each moved on by a share of its length that is drawn
anew every time: few tokens are then seen in many ways, as from random places, and all as often.

Legend: N windows, L tokens of a window.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.encoded import Encoded, rows
from morphogen.core.errors import DataError
from morphogen.core.spec import TensorSpec
from morphogen.data.disk import DiskStore, Filling, Rows
from morphogen.data.store import CHUNK, MemoryStore, Store, expand, storage_dtype

PLACED = re.compile(r"^(.*)@(\d+)$", re.DOTALL)


class WindowNames(Sequence[str]):
    """`ITEM@OFFSET` for every window: the item that its first token is of, and where in it."""

    def __init__(self, items: Sequence[str], starts: Tensor, length: int, num: int) -> None:
        self.items, self.starts, self.length, self.num = items, starts, length, num

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(self.num))]
        number = int(number)
        number += self.num * (number < 0)
        if not 0 <= number < self.num:
            raise IndexError(number)
        first = number * self.length
        item = int(items_at(self.starts, torch.tensor([first])))
        offset, name = first - int(self.starts[item]), self.items[item]
        if placed := PLACED.match(name):  # a piece of a file
            name, offset = placed[1], int(placed[2]) + offset
        return f"{name}@{offset}"


class Stream(Store):
    """Windows that follow one another, of which any other windows can be cut; behind the last of
    them the `tail`, shorter than a window."""

    def __init__(self, windows: Store, tail: Tensor) -> None:
        self.windows, self.tail, self.spec = windows, tail.long(), windows.spec
        self.cond, self.names = windows.cond, windows.names

    def __len__(self) -> int:
        return len(self.windows)

    def stored(self, index: Tensor) -> Encoded:
        return self.windows.stored(index)

    def chunks(self, size: int = CHUNK) -> Iterator[Encoded]:
        return self.windows.chunks(size)

    def with_cond(self, cond: Mapping[str, Encoded]) -> Store:
        return Stream(self.windows.with_cond(cond), self.tail)

    def drawn(self, index: Tensor, shares: Tensor) -> Batch:
        """The windows at `index`, each moved on by its share of a window, and the last one back.
        What is said of a window holds where it is: with conditions none is moved."""
        if self.cond or len(self) < 2:
            return self.batch(index)
        length, first = self.spec.num_values, index.clamp(max=len(self) - 2)
        parts: list[Any] = [self.stored(first), self.stored(first + 1)]
        both = torch.cat(parts, dim=1)  # (B, 2 L)
        by = (shares * length).long()
        places = torch.where(index > first, length - by, by)[:, None] + torch.arange(length)
        return Batch(expand(both, self.spec).gather(1, places))


class StreamFilling:
    """A stream of tokens being filled item by item, in memory or in a folder. `whole` items are
    there already."""

    def __init__(
        self, spec: TensorSpec, folder: Path | None, dtype: torch.dtype | None = None
    ) -> None:
        self.spec, self.folder, self.dtype = spec, folder, dtype or storage_dtype(spec)
        self.tokens = bytearray()  # grows in place: a list of tensors would have to be joined
        self.lengths: list[Tensor] = []
        self.whole = 0
        if folder is not None:
            self.marks = Filling(folder / "items", {"x": (torch.int64, 1)})
            lengths = Rows(folder / "items" / "x.bin", torch.int64, (), self.marks.whole)
            known = lengths.at(torch.arange(lengths.count))
            self.stream = Filling(folder, {"x": (self.dtype, 1)}, first=int(known.sum()))
            if self.stream.whole == int(known.sum()):  # else a file is gone: begin anew
                self.whole, self.lengths = self.marks.whole, [known]
            else:
                self.marks.cut(0)
                self.stream.cut(0)

    def add(self, streams: Sequence[Tensor]) -> None:
        """The tokens of some more items."""
        lengths = torch.tensor([len(each) for each in streams])
        tokens = torch.cat([each.to(self.dtype) for each in streams])
        self.lengths.append(lengths)
        if self.folder is None:
            self.tokens += tokens.numpy().tobytes()
            return
        self.stream.add({"x": tokens})
        if not self.stream.unsafe:  # what was noted of the stream is noted of its items
            self.marks.add({"x": torch.cat(self.lengths)[self.marks.rows :]})
            self.marks.keep()

    def finish(self, cond: Mapping[str, Encoded], names: Sequence[str]) -> Store:
        """The windows of the stream."""
        length = self.spec.num_values
        lengths = torch.cat(self.lengths) if self.lengths else torch.empty(0, dtype=torch.long)
        starts = lengths.cumsum(0) - lengths
        count = int(lengths.sum()) // length
        whose = items_at(starts, torch.arange(count) * length) if cond else torch.arange(0)
        said = {name: rows(values, whose) for name, values in cond.items()}
        called = WindowNames(names, starts, length, count)
        if self.folder is None:
            tokens = torch.empty(0, dtype=self.dtype)
            if self.tokens:
                tokens = torch.frombuffer(self.tokens, dtype=self.dtype)
            windows = tokens[: count * length].view(count, length)
            held = MemoryStore(self.spec, windows, said, called)
            return Stream(held, tokens[count * length :])
        self.close(lengths)
        stored = Rows(self.folder / "x.bin", self.dtype, self.spec.shape, count)
        whole = Rows(self.folder / "x.bin", self.dtype, (), int(lengths.sum()))
        tail = whole.at(torch.arange(count * length, whole.count))
        return Stream(DiskStore(self.spec, {"x": stored}, said, called), tail)

    def close(self, lengths: Tensor) -> None:
        """Have all of it on disk."""
        self.stream.close()
        self.marks.add({"x": lengths[self.marks.rows :]})
        self.marks.close()


def items_at(starts: Tensor, places: Tensor) -> Tensor:
    """Which item each place in the stream is of; of empty ones, the one that has tokens."""
    return torch.searchsorted(starts, places, right=True) - 1


def check_long_enough(store: Store, source: str) -> None:
    """Raise `DataError` when the stream of the training split is shorter than a window."""
    if not len(store):
        raise DataError(
            "the text for training is shorter than one window",
            expected=f"at least {store.spec.num_values} tokens",
            where=source,
            hint="add text, or make the windows shorter",
        )
