r"""The nearest vectors through fewer dimensions: nearly all of them, for a part of the work.

    rough(q, x) = P q . P x        P: the d principal directions of X
    score(q, x) = q . x            of the R best by the rough one

Distances are inner products in one more dimension, which P keeps as it is: |q - x|^2 orders rows as
(q, 1) . (x, -|x|^2 / 2) does, the other way round. How many directions and candidates are needed is
measured, on rows that ask for their neighbours: the least work whose recall is enough. Where no
part is (vectors that have no direction rather than others), all dimensions are compared, exactly
(`vectors`).

The directions are those of the rows that are given, and of no others: where these are what somebody
may read, nothing else takes part in what they see.

Legend: N rows, D dimensions, Q questions, R candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from morphogen.systems.knowledge.vectors import Floats, Ints, nearest

ASKED = 200  # rows by which recall is measured
SPARE = 0.003  # of recall, beyond what is wanted: it is measured on a few rows
SAMPLE = 50_000  # rows that the directions are found by
TOGETHER = 256  # questions whose candidates are compared at once
WIDTHS = (32, 64, 96, 128, 192, 256)  # directions to try
CANDIDATES = (3, 6, 12, 24)  # for each neighbour that is wanted
GATHERED = 8  # times the price of a number that is read here and there, of one read in order


class Reduced:
    """Rows to be searched again and again."""

    def __init__(
        self,
        x: Floats,  # (N, D)
        *,
        metric: Literal["inner", "euclidean"] = "inner",  # what near means
        num: int = 10,  # neighbours that recall is of
        recall: float = 0.99,  # the share of the true neighbours that is to be found
    ) -> None:
        self.num = num
        self.middle: Floats | None = x.mean(0) if metric == "euclidean" else None
        self.x = x if self.middle is None else _lifted(x - self.middle)
        self.reduced, self.candidates = self.x, 0  # 0: the scores are exact without
        self.directions: Floats = np.zeros((self.x.shape[1], 0), np.float32)
        draw = np.random.default_rng(0)
        rows = np.sort(draw.choice(len(x), min(ASKED, len(x)), replace=False))
        truth = self._others(rows, x[rows])
        for directions, candidates in self._cheaper(draw):
            self.directions, self.candidates = directions, candidates
            self.reduced = self.x @ directions
            found = self._others(rows, x[rows])
            same = [len(np.intersect1d(a, b)) for a, b in zip(truth, found, strict=True)]
            if np.mean(same) >= (recall + SPARE) * min(num, len(x) - 1):
                return
        self.reduced, self.candidates = self.x, 0
        self.directions = self.directions[:, :0]

    def nearest(self, questions: Floats, num: int) -> tuple[Ints, Floats]:
        """(Q, D) -> the places of about the `num` nearest, nearest first, and their scores."""
        if self.middle is not None:
            ones = np.ones((len(questions), 1), np.float32)
            questions = np.hstack([questions - self.middle, ones])
        if not self.candidates:
            return nearest(self.x, questions, num)
        rough, _ = nearest(self.reduced, questions @ self.directions, self.candidates * num)
        scores = np.concatenate([
            _scores(self.x, questions[i : i + TOGETHER], rough[i : i + TOGETHER])
            for i in range(0, max(len(questions), 1), TOGETHER)
        ])  # fmt: skip
        order = np.lexsort((rough, -scores), axis=1)[:, :num]
        return np.take_along_axis(rough, order, 1), np.take_along_axis(scores, order, 1)

    def _cheaper(self, draw: np.random.Generator) -> Iterator[tuple[Floats, int]]:
        """Directions, and candidates for each neighbour: those that are the least work first, none
        that are more than half of what all dimensions are."""
        size, dim = self.x.shape
        work = {
            (width, each): size * width + GATHERED * each * self.num * dim
            for width in WIDTHS for each in CANDIDATES
        }  # fmt: skip
        few = self.x[np.sort(draw.choice(size, min(SAMPLE, size), replace=False))]
        kept = dim if self.middle is None else dim - 1
        _, vectors = np.linalg.eigh((few[:, :kept].T @ few[:, :kept]).astype(np.float64))
        for width, each in sorted(work, key=lambda told: work[told]):
            if work[width, each] < size * dim / 2:
                best = np.zeros((dim, width + dim - kept), np.float32)
                best[:kept, :width] = vectors[:, ::-1][:, :width]
                best[kept:, width:] = 1
                yield best, each

    def _others(self, rows: Ints, x: Floats) -> list[Ints]:
        """The neighbours of rows, themselves left out."""
        place, _ = self.nearest(x, self.num + 1)
        return [found[found != row][: self.num] for row, found in zip(rows, place, strict=True)]


def _lifted(x: Floats) -> Floats:
    """(N, D) -> (N, D + 1), whose last is -|x|^2 / 2."""
    half = np.einsum("nd,nd->n", x, x) / 2
    return np.hstack([x, -half[:, None]])


def _scores(x: Floats, questions: Floats, place: Ints) -> Floats:
    """(N, D), (Q, D), (Q, R) -> the inner products with the rows at these places: (Q, R)."""
    found: Floats = np.matmul(x[place], questions[:, :, None])[:, :, 0]
    return found
