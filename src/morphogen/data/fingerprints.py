"""The fingerprints of many items, and the pairs among them that show the same."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from morphogen.core.codec import CanFingerprint, CanLookFirst, Fingerprint, Item
from morphogen.data.neighbours import ROWS, Links, Search, Sieve, near, pack_keys
from morphogen.data.parallel import in_order

CHUNK = 4096  # pairs compared at once
FEW = 256  # pairs that are compared as they are
SAMPLE = 200  # items by which the number of pairs is estimated
Pair = tuple[int, int, float]  # two item numbers, and their likeness


class Fingerprints:
    """Fingerprints by item number, added in ascending order. Items that show nothing have none."""

    def __init__(self, codec: Any) -> None:
        self.codec: CanFingerprint | None = codec if isinstance(codec, CanFingerprint) else None
        self.numbers: list[int] = []
        self.prints: list[Fingerprint] = []

    def __len__(self) -> int:
        return len(self.numbers)

    def see(self, number: int, item: Item) -> None:
        """Take the fingerprint of an item, if its codec has such and it shows anything."""
        found = self.codec.fingerprint(item) if self.codec else None
        if found is not None:
            self.add(number, found)

    def add(self, number: int, fingerprint: Fingerprint) -> None:
        """Add one that was taken before."""
        self.numbers.append(number)
        self.prints.append(fingerprint)

    def pairs(self, most: int | None = None) -> list[Pair] | None:
        """Enough pairs of items that show the same to connect all that do: a pair that others
        connect already is not compared. None when more than `most` would have to be."""
        keys = pack_keys([each.keys for each in self.prints])
        linked = Links(len(self))
        if most is not None and self.codec is not None and len(self):
            # Alike items are alike in a sample: a few rows tell what all would cost.
            rows = np.linspace(0, len(keys) - 1, min(len(keys), SAMPLE)).astype(int)
            proposed = len(near(keys[rows], keys, self.codec.key_radius)[0]) - len(rows)
            if proposed * len(keys) / len(rows) > most:
                return None
        found = []
        for i, j, likeness in self._compared(self, keys, keys, linked):
            if linked.root(i) != linked.root(j):
                linked.join(i, j)
                found.append((self.numbers[i], self.numbers[j], likeness))
        return found

    def pairs_with(self, others: Fingerprints, same_from: float | None = None) -> list[Pair]:
        """Every (own number, other's number) whose items show the same."""
        ours, theirs = (pack_keys([p.keys for p in each.prints]) for each in (self, others))
        found: dict[tuple[int, int], float] = {}
        for turn, (first, second) in enumerate(((self, others), (others, self))):
            one, two = (ours, theirs) if turn == 0 else (theirs, ours)
            for i, j, likeness in first._compared(second, one, two, None, same_from):
                pair = (first.numbers[i], second.numbers[j])
                pair = pair if turn == 0 else pair[::-1]
                found[pair] = max(likeness, found.get(pair, -1.0))
        return [(i, j, likeness) for (i, j), likeness in found.items()]

    def alike(self, number: int, others: Iterable[int]) -> dict[int, float]:
        """Of the items `others`, all of which have a fingerprint, those that show the same as item
        `number`, and their likeness to it."""
        pairs = self._only([number]).pairs_with(self._only(others))
        return {other: likeness for _, other, likeness in pairs}

    def _only(self, numbers: Iterable[int]) -> Fingerprints:
        some = Fingerprints(self.codec)
        for number in numbers:  # which are in ascending order
            some.add(number, self.prints[bisect_left(self.numbers, number)])
        return some

    def details(self) -> Tensor:
        """The details of all fingerprints, (N, D) uint8."""
        joined = bytearray(b"".join(each.detail for each in self.prints))
        return torch.frombuffer(joined, dtype=torch.uint8).view(len(self), -1)

    def _compared(
        self,
        others: Fingerprints,
        own_keys: np.ndarray,
        other_keys: np.ndarray,
        links: Links | None,
        same_from: float | None = None,
    ) -> Iterator[Pair]:
        """(i, j, likeness) of the candidates that are alike, by place in the lists."""
        codec = self.codec or others.codec
        if codec is None or not len(self) or not len(others):
            return
        same_from = codec.same_from if same_from is None else same_from
        ours, theirs = self.details(), others.details()
        search = self._search(others, own_keys, other_keys)

        def judged(start: int) -> list[Pair]:
            i, j, key = search.block(start)
            # What is found elsewhere meanwhile is not known here: a little is compared in vain.
            known = None if links is None else links.copy()
            if known is not None:
                i, j, key = _of(known.are_apart(i, j), i, j, key)
            if isinstance(codec, CanLookFirst) and search.sieve is not None:
                here, coarse = ours[start : start + ROWS], search.sieve.second
                kept = codec.promising(here, theirs, coarse, (i - start, j, key))
                i, j, key = _of(kept, i, j, key)
            found: list[Pair] = []
            for begin in range(0, len(i), CHUNK):
                one, other, near = _of(slice(begin, begin + CHUNK), i, j, key)
                if known is not None:
                    one, other, near = _of(known.are_apart(one, other), one, other, near)
                likeness = codec.likeness(ours[one], theirs[other], torch.from_numpy(near))
                for each in (likeness >= same_from).nonzero().flatten().tolist():
                    found.append((int(one[each]), int(other[each]), float(likeness[each])))
                    if known is not None:
                        known.join(*found[-1][:2])
            return found

        for found in in_order(judged, range(0, len(self), ROWS)):
            yield from found

    def _search(self, others: Fingerprints, own_keys: np.ndarray, other_keys: np.ndarray) -> Search:
        """The search for pairs whose keys are near, through the sieve of a codec that has one, but
        for a few pairs, which are compared in less time than a sieve takes to make."""
        codec = self.codec or others.codec
        assert codec is not None
        sieve = None
        if isinstance(codec, CanLookFirst) and len(self) * len(others) > FEW:
            first, second = codec.coarse_views(self.details()), codec.coarse(others.details())
            sieve = Sieve(first, second, codec.coarse_from)
        return Search(own_keys, other_keys, codec.key_radius, sieve)


def _of(which: Any, *each: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(x[which] for x in each)
