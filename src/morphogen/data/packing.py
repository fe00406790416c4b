"""Documents laid side by side into windows, with which of their tokens are learned.

A codec says so by `packs`, with `gap` and a method `encode_learned(item) -> (tokens, learned)`.
Where the tokens of its spec have a boundary, a document is laid where it fits best, the longest
first (best fit decreasing), behind `gap` boundaries, the end of the one before being the first of
them; what is left of a window is boundaries. Where items end, each document is an item.

    gap 2    | b b d d d d b b e e b b f f b |

A network that looks past boundaries (as published ones do, whose conversations are full of what
ends a turn) gets one document in each window, `Unpacked`: the codec is `alone`.

What is learned counts as often as makes the mean weight of what is real 1, so that the loss of a
split is the mean over what is learned.

Legend: N windows, L tokens of a window, D documents.
"""

from __future__ import annotations

import bisect
import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.encoded import Encoded
from morphogen.core.spec import TensorSpec
from morphogen.data.disk import Rows
from morphogen.data.store import CHUNK, Store, expand, storage_dtype
from morphogen.data.windows import StreamFilling

FLAGGED = torch.int32  # how a token is kept with whether it is learned: 2 token + learned


def flagged(tokens: Tensor, learned: Tensor) -> Tensor:
    """Tokens with whether they are learned, as they are kept."""
    return (2 * tokens + learned).to(FLAGGED)


def best_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Which documents share a window of `room`: the longest first, each where least is left."""
    left: list[tuple[int, int]] = []  # (room left, window), sorted
    windows: list[list[int]] = []
    for document in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        size = lengths[document]
        place = bisect.bisect_left(left, (size, -1))
        if place < len(left):
            free, window = left.pop(place)
        else:
            free, window = room, len(windows)
            windows.append([])
        windows[window].append(document)
        bisect.insort(left, (free - size, window))
    return windows


class Packed(Store):
    """Windows of documents, each token with the weight it has in the loss."""

    def __init__(
        self, spec: TensorSpec, tokens: Any, lengths: Tensor, names: Sequence[str], gap: int
    ) -> None:
        self.spec, self.tokens, self.gap = spec, tokens, gap  # `tokens` by index, on disk or here
        self.lengths, self.starts = lengths, lengths.cumsum(0) - lengths
        self.cond: dict[str, Any] = {}
        self.windows = self._windows()
        self.names = [_named(names, window) for window in self.windows]
        self.num_documents = len(lengths)
        self.scale = self._scale()

    def _windows(self) -> list[list[int]]:
        """Which documents share a window."""
        if self.spec.end is not None:
            return [[i] for i in range(len(self.lengths))]
        # A document is laid with its gap, of which a window has one more.
        return best_fit((self.lengths + self.gap - 1).tolist(), self.spec.num_values - 1)

    def _scale(self) -> float:
        learned = sum(int(self.document(i)[1].sum()) for i in range(self.num_documents))
        real = len(self.windows) * self.spec.num_values
        if self.spec.end is not None:
            real = int(self.lengths.sum())
        return real / max(learned, 1)

    def __len__(self) -> int:
        return len(self.windows)

    def document(self, number: int) -> tuple[Tensor, Tensor]:
        """Tokens and whether they are learned, (n,) each."""
        return self._kept(int(self.starts[number]), int(self.lengths[number]))

    def _kept(self, start: int, num: int) -> tuple[Tensor, Tensor]:
        kept = self.tokens(torch.arange(start, start + num)).long()
        return kept >> 1, (kept & 1).bool()

    def places(self, window: int) -> list[tuple[int, slice]]:
        """The documents of a window, and where in it the tokens of each stand."""
        found, place = [], self.gap
        for number in self.windows[window]:
            size = int(self.lengths[number])
            found.append((number, slice(place, place + size)))
            place += size + max(self.gap - 1, 0)
        return found

    def _laid(self, window: int) -> tuple[Tensor, Tensor]:
        places = self.places(window)
        return self._laid_out([(self.document(number), at.start) for number, at in places])

    def _laid_out(
        self, documents: Sequence[tuple[tuple[Tensor, Tensor], int]]
    ) -> tuple[Tensor, Tensor]:
        """Documents, each from a place on, in a window."""
        end = self.spec.boundary if self.spec.end is None else self.spec.end
        x = torch.full((self.spec.num_values,), end, dtype=torch.int64)
        learned = torch.zeros(self.spec.num_values, dtype=torch.bool)
        for (tokens, own), start in documents:
            there = slice(start, start + len(tokens))
            x[there], learned[there] = tokens, own
        return x, learned

    def stored(self, index: Tensor) -> Encoded:
        rows = [self._laid(i)[0] for i in index.tolist()]
        empty = torch.empty(0, *self.spec.shape, dtype=torch.int64)
        return (torch.stack(rows) if rows else empty).to(storage_dtype(self.spec))

    def weight(self, index: Tensor) -> Tensor:
        """How much each token counts, (B, L)."""
        rows = [self._laid(i)[1] for i in index.tolist()]
        return (torch.stack(rows) if rows else torch.empty(0, *self.spec.shape)) * self.scale

    def apart(self) -> Packed:
        """The same documents, each in a window of its own."""
        other = copy.copy(self)
        other.windows = [[i] for i in sorted(i for window in self.windows for i in window)]
        named = {i: name for window, name in zip(self.windows, self.names, strict=True)
                 for i in window}  # fmt: skip
        other.names = [named[i] for [i] in other.windows]
        return other

    def alone(self, window: int) -> Batch:
        """The documents of a window, each in one of its own, without weights."""
        each = (self._laid_out([(self.document(i), self.gap)]) for i in self.windows[window])
        x = torch.stack([tokens for tokens, _ in each])
        return Batch(expand(x.to(storage_dtype(self.spec)), self.spec))

    def digest_into(self, digest: hashlib.blake2b, name: str) -> None:
        """Hash which tokens are learned as well."""
        super().digest_into(digest, name)
        for start in range(0, len(self), CHUNK):
            index = torch.arange(start, min(start + CHUNK, len(self)))
            digest.update((self.weight(index) > 0).to(torch.uint8).numpy().tobytes())

    def with_cond(self, cond: Mapping[str, Encoded]) -> Store:
        found = copy.copy(self)
        found.cond = dict(cond)
        return found


class Unpacked(Packed):
    """One document in each window."""

    def _windows(self) -> list[list[int]]:
        return [[i] for i in range(len(self.lengths))]


class PackedFilling(StreamFilling):
    """Documents being taken in one by one, in memory or in a folder."""

    def __init__(
        self, spec: TensorSpec, folder: Path | None, gap: int, kind: type[Packed] = Packed
    ) -> None:
        super().__init__(spec, folder, FLAGGED)
        self.gap, self.kind = gap, kind

    def finish(self, cond: Mapping[str, Encoded], names: Sequence[str]) -> Store:
        """The store."""
        lengths = torch.cat(self.lengths) if self.lengths else torch.empty(0, dtype=torch.long)
        if self.folder is None:
            held = torch.empty(0, dtype=self.dtype)
            if self.tokens:
                held = torch.frombuffer(self.tokens, dtype=self.dtype)
            return self.kind(self.spec, held.__getitem__, lengths, names, self.gap)
        self.close(lengths)
        whole = Rows(self.folder / "x.bin", self.dtype, (), int(lengths.sum()))
        return self.kind(self.spec, whole.at, lengths, names, self.gap)


def _named(names: Sequence[str], window: Sequence[int]) -> str:
    """A window is called by its first document, and how many more there are."""
    first = names[window[0]] if names else ""
    return f"{first} and {len(window) - 1} more" if len(window) > 1 else first
