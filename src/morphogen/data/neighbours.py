"""Near neighbours among bit strings, and clusters of what is connected.

The search is exact: a block of rows against all others, exclusive or and population count over
64-bit words, at about 2 ns a pair of keys. Where the codec can tell by a product of short vectors
which items may show the same, only those have their keys compared: a tenth of the time.

Legend: N, M items, K keys of an item, W 64-bit words of a key, G runs of keys that have a vector of
their own, C values of a vector.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from morphogen.data.parallel import in_order

ROWS, COLUMNS = 128, 4096  # of a block: what is compared stays in the processor's cache
NONE = np.zeros((4, 0), np.int64)  # i, j, key, distance of no pair
Near = tuple[np.ndarray, np.ndarray, np.ndarray]  # (P,) each: i, j and the key of i


def pack_keys(keys: Sequence[Sequence[bytes]]) -> np.ndarray:
    """The keys of N items -> (N, K, W) words; keys are filled up with zeros to whole words."""
    if not keys:
        return np.zeros((0, 1, 1), np.uint64)
    width = -(-len(keys[0][0]) // 8) * 8
    joined = b"".join(key.ljust(width, b"\0") for each in keys for key in each)
    return np.frombuffer(joined, np.uint64).reshape(len(keys), len(keys[0]), width // 8)


@dataclass(frozen=True)
class Sieve:
    """What rules most pairs out before their keys are compared: pair (i, j) passes for the g-th of
    G equal runs of keys where first[i, g] . second[j] is `least` or more."""

    first: Tensor  # (N, G, C)
    second: Tensor  # (M, C)
    least: float


def near(first: np.ndarray, second: np.ndarray, radius: int, sieve: Sieve | None = None) -> Near:
    """Every pair (i, j) in which a key of first[i] lies within `radius` bits of the first key of
    second[j], and the nearest key. `first` is (N, K, W) and `second` (M, K, W)."""
    search = Search(first, second, radius, sieve)
    found = list(in_order(search.block, range(0, len(first), ROWS)))
    i, j, key = (np.concatenate(each) for each in zip(*[NONE[:3], *found], strict=True))
    return i, j, key


class Search:
    """The near pairs of `near`, block of rows by block."""

    def __init__(
        self, first: np.ndarray, second: np.ndarray, radius: int, sieve: Sieve | None = None
    ) -> None:
        self.first, self.radius, self.sieve = first, radius, sieve
        self.plain = np.ascontiguousarray(second[:, 0].T)  # (W, M)

    def block(self, start: int) -> Near:
        """Those of the rows from `start` on, in ascending order."""
        rows = slice(start, start + ROWS)
        words = np.ascontiguousarray(self.first[rows].T)  # (W, K, ROWS)
        found = [NONE]
        for column in range(0, self.plain.shape[1], COLUMNS):
            columns = slice(column, column + COLUMNS)
            for i, j, keys in self._passed(rows, columns):
                found += self._within(words, i, j + column, keys)
        i, j, key, distance = np.concatenate(found, axis=1)
        order = np.lexsort((distance, j, i))  # of several keys, the nearest
        i, j, key = i[order], j[order], key[order]
        new = (np.diff(i, prepend=-1) != 0) | (np.diff(j, prepend=-1) != 0)
        return i[new] + start, j[new], key[new]

    def _passed(
        self, rows: slice, columns: slice
    ) -> Iterator[tuple[np.ndarray, np.ndarray, range]]:
        """The pairs in a block that may be near, and the keys by which."""
        num_keys = self.first.shape[1]
        if self.sieve is None:
            last = self.plain[-1, columns]  # keys begin with what most items share
            for key in range(num_keys):
                differing = np.bitwise_count(self.first[rows, key, -1, None] ^ last)
                yield *_places(differing <= self.radius), range(key, key + 1)
            return
        every = self.sieve.first.shape[1]
        for run in range(every):
            passed = self.sieve.first[rows, run] @ self.sieve.second[columns].T >= self.sieve.least
            keys = range(run * num_keys // every, (run + 1) * num_keys // every)
            yield *_places(passed.numpy()), keys

    def _within(
        self, words: np.ndarray, i: np.ndarray, j: np.ndarray, keys: range
    ) -> Iterator[np.ndarray]:
        """Of the pairs those in which a key is within the radius: i, j, key, distance."""
        others = [word.take(j) for word in self.plain]
        for key in keys:
            distance = np.zeros(len(i), np.uint16)
            for word, other in enumerate(others):
                distance += np.bitwise_count(words[word, key].take(i) ^ other)
            close = np.flatnonzero(distance <= self.radius)
            yield np.stack([i[close], j[close], np.full(len(close), key), distance[close]])


def _places(passed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of what is true."""
    flat = np.flatnonzero(passed)
    i = flat // passed.shape[1]
    return i, flat - i * passed.shape[1]


class Links:
    """Union-find over 0 .. num - 1: what is connected, without comparing everything with all."""

    def __init__(self, num: int) -> None:
        self.parent = array("q", range(num))

    def copy(self) -> Links:
        """The same connections, to be added to apart from these."""
        other = Links(0)
        other.parent = self.parent[:]
        return other

    def root(self, i: int) -> int:
        """The smallest member of i's cluster."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def roots(self, numbers: np.ndarray) -> np.ndarray:
        """The smallest member of the cluster of each."""
        parent, found = np.asarray(self.parent), numbers
        while ((above := parent[found]) != found).any():
            found = above
        return found

    def are_apart(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """True, pair by pair, while nothing connects the two."""
        return self.roots(i) != self.roots(j)

    def join(self, i: int, j: int) -> None:
        """Connect two."""
        first, second = sorted((self.root(int(i)), self.root(int(j))))
        self.parent[second] = first


def clusters(firsts: np.ndarray, pairs: Iterable[tuple[int, int]]) -> array[int]:
    """The smallest member of each item's cluster: of items that are connected to the `firsts` of
    their copies (N,), and by pairs."""
    links = Links(0)
    links.parent = array("q", firsts.astype(np.int64).tobytes())
    for i, j in pairs:
        links.join(i, j)
    return array("q", links.roots(np.arange(len(firsts))).tobytes())


def members(roots: Sequence[int] | np.ndarray) -> Iterator[list[int]]:
    """The clusters of two and more, in the order of their first members."""
    of = np.asarray(roots)
    order = of.argsort(kind="stable")
    begins = np.flatnonzero(np.diff(of[order], prepend=-1))
    sizes = np.diff(begins, append=len(of))
    for begin, size in zip(begins[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        yield order[begin : begin + size].tolist()
