r"""Rows laid out by the centre that they are nearest to, so that a question looks into a few cells.

    cell(x)   = argmin_c |x - centre_c|
    rough(q)  = the R rows with the largest q . x among the cells whose centres are nearest to q
    best(q)   = of these, the k with the largest inner product in all dimensions

An inverted file (Sivic & Zisserman 2003; Jegou et al. 2011) without codes: its rows are short
vectors (`reduced`). All questions of a block go through a cell while its rows are near the
processor, in the order of the cells: what one is given does not depend on who else asks, but for
the rounding of its short vector.

Legend: N rows, D dimensions, W of short vectors, C cells, P cells looked into, Q questions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SAMPLE = 50  # rows for each centre, that the centres are found by
ITERATIONS = 10

compiled = njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})


class Cells:
    """Centres, and which rows lie nearest to each."""

    def __init__(self, x: Floats, num: int) -> None:
        """`num` cells of (N, W)."""
        from sklearn.cluster import KMeans

        draw = np.random.default_rng(0)
        some = draw.choice(len(x), min(num * SAMPLE, len(x)), replace=False)
        means = KMeans(num, init="random", n_init=1, max_iter=ITERATIONS, random_state=0)
        self.centres: Floats = means.fit(x[np.sort(some)]).cluster_centers_.astype(np.float32)
        self.cell: Ints = self.nearest(x, 1)[:, 0]  # (N,)
        self.rows: Ints = np.argsort(self.cell, kind="stable")  # (N,), cell by cell
        self.starts: Ints = np.searchsorted(self.cell[self.rows], np.arange(num + 1))

    def nearest(self, x: Floats, num: int) -> Ints:
        """(Q, W) -> the cells whose centres are nearest, nearest first: (Q, num)."""
        half = np.einsum("cw,cw->c", self.centres, self.centres) / 2
        found = [_first(half - x[i : i + 4096] @ self.centres.T, num)
                 for i in range(0, max(len(x), 1), 4096)]  # fmt: skip
        return np.concatenate(found)


def _first(far: Floats, num: int) -> Ints:
    """The `num` smallest of each row, smallest first."""
    place = np.argpartition(far, num - 1, axis=1)[:, :num]
    order = np.argsort(np.take_along_axis(far, place, 1), axis=1, kind="stable")
    return np.take_along_axis(place, order, 1)


class Asked(NamedTuple):
    """Questions."""

    short: Floats  # (Q, W)
    full: Floats  # (Q, D)
    cells: Ints  # (Q, P), that each looks into


class Laid(NamedTuple):
    """Rows, cell by cell."""

    starts: Ints  # (C + 1,)
    rows: Ints  # (N,), their places in `full`
    short: Floats  # (N, W)
    full: Floats  # (N, D), as they were given


@compiled
def search(asked, laid, candidates, num):  # type: ignore[no-untyped-def]
    """The places of the best, best first, and their scores: (Q, num) each."""
    short, full, cells = asked
    starts, rows = laid.starts, laid.rows
    rough = np.full((len(short), candidates), -np.inf, np.float32)  # each a heap
    where = np.full((len(short), candidates), -1, np.int64)
    begins, asking = _by_cell(cells, len(starts) - 1)
    for cell in range(len(starts) - 1):  # whose rows stay near the processor for all who ask
        for q in asking[begins[cell] : begins[cell + 1]]:
            for i in range(starts[cell], starts[cell + 1]):
                near = _inner(short[q], laid.short[i])
                if near > rough[q, 0]:
                    _replace_least(rough[q], where[q], near, i)
    place = np.full((len(short), num), -1, np.int64)
    score = np.full((len(short), num), -np.inf, np.float32)
    for q in range(len(short)):
        for k in where[q]:
            if k >= 0:
                _insert(score[q], place[q], _inner(full[q], laid.full[rows[k]]), rows[k])
    return place, score


@compiled
def _by_cell(cells, num):  # type: ignore[no-untyped-def]
    """(Q, P) -> where each cell begins among those who ask (C + 1,), and these (Q P,)."""
    begins = np.zeros(num + 1, np.int64)
    for cell in cells.flat:
        begins[cell + 1] += 1
    begins = np.cumsum(begins)
    free, asking = begins.copy(), np.empty(cells.size, np.int64)
    for q in range(len(cells)):
        for cell in cells[q]:
            asking[free[cell]] = q
            free[cell] += 1
    return begins, asking


@compiled
def _inner(a, b):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@compiled
def _replace_least(heap, where, value, place):  # type: ignore[no-untyped-def]
    """Put a value in place of the least, which stands first: each is at most those at 2i + 1 and
    2i + 2."""
    i, num = 0, len(heap)
    while True:
        child = 2 * i + 1
        if child + 1 < num and heap[child + 1] < heap[child]:
            child += 1
        if child >= num or heap[child] >= value:
            break
        heap[i], where[i] = heap[child], where[child]
        i = child
    heap[i], where[i] = value, place


@compiled
def _insert(best, places, value, place):  # type: ignore[no-untyped-def]
    """Into a list that is sorted, largest first; of equals, the first place stands first."""
    i = len(best)
    while i and (value > best[i - 1] or (value == best[i - 1] and place < places[i - 1])):
        i -= 1
        if i + 1 < len(best):
            best[i + 1], places[i + 1] = best[i], places[i]
    if i < len(best):
        best[i], places[i] = value, place
