r"""The nearest vectors, exactly.

    nearest(q) = the k rows of X with the largest q . x

All of X passes the processor once for a block of questions, as one matrix product: with vectors of
length 1 the inner product is the cosine. Nothing is built beforehand, so nothing is out of date,
and what is not among the rows takes no part.

Legend: N rows, D dimensions, Q questions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 16  # rows that pass at once

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def nearest(x: Floats, questions: Floats, num: int) -> tuple[Ints, Floats]:
    """(N, D), (Q, D) -> the places of the `num` largest inner products, best first, and these:
    (Q, num) each. Equals stand in the order of their places."""
    num = min(num, len(x))
    best = np.full((len(questions), 0), -np.inf, np.float32)
    place = np.zeros((len(questions), 0), np.int64)
    for start in range(0, len(x), BLOCK):
        scores = questions @ x[start : start + BLOCK].T  # (Q, block)
        chosen = _largest(scores, num)
        best = np.concatenate([best, np.take_along_axis(scores, chosen, 1)], 1)
        place = np.concatenate([place, chosen + start], 1)
        kept = _largest(best, num)
        best, place = np.take_along_axis(best, kept, 1), np.take_along_axis(place, kept, 1)
    order = np.lexsort((place, -best), axis=1)
    return np.take_along_axis(place, order, 1), np.take_along_axis(best, order, 1)


def _largest(scores: Floats, num: int) -> Ints:
    """Where the `num` largest of each row stand, in the order of their places."""
    if scores.shape[1] <= num:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    chosen = np.argpartition(-scores, num - 1, axis=1)[:, :num]
    return np.sort(chosen, axis=1)


def of_length_one(x: Floats) -> Floats:
    """(N, D), each row divided by its length; zeros stay."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    divided: Floats = x / np.maximum(lengths, 1e-12)
    return divided
