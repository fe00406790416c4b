"""Near neighbours among bit strings, and clusters of what is connected.

The search is exact: a block of rows against all others, exclusive or and population count over
64-bit words, at about 2 ns a pair of keys.

Legend: N, M items, K keys of an item, W 64-bit words of a key.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

ROWS, COLUMNS = 32, 4096  # of a block: what is compared stays in the processor's cache
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
    ruled_out_by = _filter(first)
    plain = np.ascontiguousarray(second[:, 0].T)  # (W, M)
    starts = range(0, len(first), ROWS)

    def block(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        i, j, key = _near_block(first[start : start + ROWS], plain, radius, ruled_out_by)
        return i + start, j, key

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(block, starts))
    every = [np.concatenate(each) for each in zip(*found, strict=True)] if found else []
    i, j, key = every or [np.zeros(0, np.int64)] * 3
    return i, j, key


def _filter(first: np.ndarray) -> tuple[int, list[list[int]]]:
    """The word that rules pairs out, and the keys by what they have there. Keys that share it in
    every item (that of a picture and of its mirror image) are ruled out together. Of words that are
    shared as often, the last: keys begin with what most items share."""
    choices = []
    for word in range(first.shape[2]):
        together: list[list[int]] = []
        for key in range(first.shape[1]):
            for others in together:
                if np.array_equal(first[:, key, word], first[:, others[0], word]):
                    others.append(key)
                    break
            else:
                together.append([key])
        choices.append((len(together), -word, together))
    _, word, chosen = min(choices, key=lambda each: each[:2])
    return -word, chosen


def _near_block(
    rows: np.ndarray,
    plain: np.ndarray,
    radius: int,
    ruled_out_by: tuple[int, list[list[int]]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    num_columns = plain.shape[1]
    word, together = ruled_out_by
    others = [each for each in range(len(plain)) if each != word]
    found = []
    for column in range(0, num_columns, COLUMNS):
        part = plain[:, column : column + COLUMNS]
        for keys in together:
            counts = np.bitwise_count(rows[:, keys[0], word, None] ^ part[word]).ravel()  # (R C,)
            left = np.flatnonzero(counts <= radius)
            i = left // part.shape[1]
            j = left - i * part.shape[1]
            filtered = counts.take(left).astype(np.uint16)
            for key in keys:
                distance = filtered
                for each in others:
                    differing = rows[:, key, each].take(i) ^ part[each].take(j)
                    distance = distance + np.bitwise_count(differing)
                near = np.flatnonzero(distance <= radius)
                key_of = np.full(len(near), key)
                found.append(np.stack([i[near], j[near] + column, key_of, distance[near]]))
    i, j, key, distance = np.concatenate(found, axis=1)
    order = np.lexsort((distance, j, i))  # of several keys, the nearest
    i, j, key = i[order], j[order], key[order]
    _, firsts = np.unique(i * num_columns + j, return_index=True)
    return i[firsts], j[firsts], key[firsts]


class Links:
    """Union-find over 0 .. num - 1: what is connected, without comparing everything with all."""

    def __init__(self, num: int) -> None:
        self.parent = array("q", range(num))

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


def clusters(num: int, pairs: Iterable[tuple[int, int]]) -> array[int]:
    """The smallest member of each item's cluster."""
    links = Links(num)
    for i, j in pairs:
        links.join(i, j)
    return array("q", links.roots(np.arange(num)).tobytes())


def members(roots: Sequence[int] | np.ndarray) -> Iterator[list[int]]:
    """The clusters of two and more, in the order of their first members."""
    of = np.asarray(roots)
    order = of.argsort(kind="stable")
    begins = np.flatnonzero(np.diff(of[order], prepend=-1))
    sizes = np.diff(begins, append=len(of))
    for begin, size in zip(begins[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        yield order[begin : begin + size].tolist()
