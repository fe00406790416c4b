r"""The nearest vectors, exactly.

    nearest(q) = the k rows of X with the largest q . x

X passes the processor once for a block of questions, some rows at a time: with vectors of
length 1 the inner product is the cosine. Nothing is built beforehand, so nothing is out of date,
and what is not among the rows takes no part. After a first few rows only scores above the k-th best
so far are looked at again, so that choosing costs less than multiplying.

Legend: N rows, D dimensions, Q questions, W the most that come in question of a block.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FIRST, BLOCK = 1 << 12, 1 << 14  # rows that pass at once: the first, or for one question; others
ASKED = 512  # questions that are answered at once

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Sliced(Protocol):
    """Vectors that are read a stretch at a time: an array, or what lies in several files."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Floats: ...


def nearest(x: Sliced, questions: Floats, num: int) -> tuple[Ints, Floats]:
    """(N, D), (Q, D) -> the places of the `num` largest inner products, best first, and these:
    (Q, num) each. Equals stand in the order of their places."""
    parts = [
        _nearest(x, questions[start : start + ASKED], min(num, len(x)))
        for start in range(0, max(len(questions), 1), ASKED)
    ]
    place, best = (np.concatenate(each) for each in zip(*parts, strict=True))
    return place, best


def _nearest(x: Sliced, questions: Floats, num: int) -> tuple[Ints, Floats]:
    scores = questions @ x[: max(FIRST, num)].T
    place = largest(scores, num)
    best = np.take_along_axis(scores, place, 1)
    step = BLOCK if len(questions) > 1 else FIRST
    for start in range(max(FIRST, num), len(x), step):
        scores = questions @ x[start : start + step].T  # (Q, block)
        found, where = _above(scores, best.min(1))
        best, place = np.hstack([best, found]), np.hstack([place, where + start])
        kept = largest(best, num)
        best, place = np.take_along_axis(best, kept, 1), np.take_along_axis(place, kept, 1)
    order = np.lexsort((place, -best), axis=1)
    return np.take_along_axis(place, order, 1), np.take_along_axis(best, order, 1)


def _above(scores: Floats, least: Floats) -> tuple[Floats, Ints]:
    """The scores of each row that are larger than what is `least` for it, and where: (Q, W) each,
    filled up with what is never chosen."""
    row, column = np.nonzero(scores > least[:, None])
    counts = np.bincount(row, minlength=len(scores))
    slot = np.arange(len(row)) - (np.cumsum(counts) - counts)[row]
    found = np.full((len(scores), counts.max(initial=0)), -np.inf, np.float32)
    where = np.zeros(found.shape, np.int64)
    found[row, slot], where[row, slot] = scores[row, column], column
    return found, where


def largest(scores: NDArray[Any], num: int) -> Ints:
    """Where the `num` largest of each row stand, in the order of their places; of equals at the
    end, those that stand first."""
    if scores.shape[1] <= num:
        return np.tile(np.arange(scores.shape[1]), (len(scores), 1))
    chosen = np.argpartition(-scores, num - 1, axis=1)[:, :num]
    least = np.take_along_axis(scores, chosen, 1).min(1, keepdims=True)
    for row in np.flatnonzero((scores == least).sum(1) > 1):
        best = np.lexsort((np.arange(scores.shape[1]), -scores[row]))
        chosen[row] = best[:num]
    return np.sort(chosen, axis=1)


def of_length_one(x: Floats) -> Floats:
    """(N, D), each row divided by its length; zeros stay."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    divided: Floats = x / np.maximum(lengths, 1e-12)
    return divided
