"""Near neighbours among bit strings, and clusters of what is connected.

The search is exact: a block of rows against all others, exclusive or and population count over
64-bit words, at about 2 ns a pair of keys.

Legend: N, M items, K keys of an item, W 64-bit words of a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

ROWS, COLUMNS = 128, 8192  # of a block: its counts stay in the processor's cache
THREADS = 2


def pack_keys(keys: Sequence[Sequence[bytes]]) -> np.ndarray:
    """The keys of N items -> (N, K, W) words; keys are filled up with zeros to whole words."""
    if not keys:
        return np.zeros((0, 1, 1), np.uint64)
    width = -(-len(keys[0][0]) // 8) * 8
    joined = b"".join(key.ljust(width, b"\0") for each in keys for key in each)
    return np.frombuffer(joined, np.uint64).reshape(len(keys), len(keys[0]), width // 8)


def near(
    first: np.ndarray, second: np.ndarray, radius: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair (i, j) in which a key of first[i] lies within `radius` bits of the first key of
    second[j], and the nearest key. `first` is (N, K, W) and `second` (M, K, W)."""
    plain = np.ascontiguousarray(second[:, 0].T)  # (W, M)
    starts = range(0, len(first), ROWS)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda i: _near_block(first[i : i + ROWS], plain, radius, i), starts))
    every = [np.concatenate(each) for each in zip(*found, strict=True)] if found else []
    i, j, key = every or [np.zeros(0, np.int64)] * 3
    return i, j, key


def _near_block(
    rows: np.ndarray, plain: np.ndarray, radius: int, start: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    num_columns = plain.shape[1]
    found = []
    for column in range(0, num_columns, COLUMNS):
        part = plain[:, column : column + COLUMNS]
        for key in range(rows.shape[1]):
            # The last word alone rules out most pairs: keys begin with what most items share.
            counts = np.bitwise_count(rows[:, key, -1:] ^ part[-1:])  # (R, C)
            i, j = np.nonzero(counts <= radius)
            distance = counts[i, j].astype(np.int64)
            for word, others in enumerate(part[:-1]):
                distance += np.bitwise_count(rows[i, key, word] ^ others[j])
            within = distance <= radius
            i, j, distance = i[within], j[within], distance[within]
            found.append(np.stack([i + start, j + column, np.full(len(i), key), distance]))
    i, j, key, distance = np.concatenate(found, axis=1)
    order = np.lexsort((distance, j, i))  # of several keys, the nearest
    i, j, key = i[order], j[order], key[order]
    _, firsts = np.unique(i * num_columns + j, return_index=True)
    return i[firsts], j[firsts], key[firsts]


class Links:
    """Union-find over 0 .. num - 1: what is connected, without comparing everything with all."""

    def __init__(self, num: int) -> None:
        self.parent = list(range(num))

    def root(self, i: int) -> int:
        """The smallest member of i's cluster."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def are_apart(self, i: int, j: int) -> bool:
        """True while nothing connects the two."""
        return self.root(int(i)) != self.root(int(j))

    def join(self, i: int, j: int) -> None:
        """Connect two."""
        first, second = sorted((self.root(int(i)), self.root(int(j))))
        self.parent[second] = first


def clusters(num: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """The smallest member of each item's cluster."""
    links = Links(num)
    for i, j in pairs:
        links.join(i, j)
    return [links.root(i) for i in range(num)]


def members(roots: Sequence[int]) -> Iterator[list[int]]:
    """The clusters of two and more, in the order of their first members."""
    found: dict[int, list[int]] = {}
    for number, root in enumerate(roots):
        found.setdefault(root, []).append(number)
    yield from (each for each in found.values() if len(each) > 1)
