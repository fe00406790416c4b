r"""The nearest vectors through fewer dimensions: nearly all of them, for a part of the work.

    rough(q, x) = P q . P x        P: the W principal directions of X
    score(q, x) = q . x            of the R best by the rough one

Rough scores are computed of all rows, or of those in the cells that lie nearest to the question
(`cells`). Distances are inner products in one more dimension, which P keeps as it is: |q - x|^2
orders rows as (1, q) . (-|x|^2 / 2, x) does, the other way round.

How many directions, cells and candidates are needed is measured, on rows that ask for their
neighbours: the least work whose recall is enough. Where no part is (vectors that have no direction
rather than others), all dimensions are compared, exactly (`vectors`). Directions and cells are
those of the rows that are given, and of no others: where these are what somebody may read, nothing
else takes part in what they see.

Legend: N rows, D dimensions, W of them that are compared first, A rows that ask, R candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from morphogen.systems.knowledge.cells import Asked, Cells, Laid, search
from morphogen.systems.knowledge.vectors import Floats, Ints, nearest

FEWEST = 1000  # rows that are worth a plan
ASKED = 400  # rows by which recall is measured
SPARE = 0.002  # of recall, beyond what is wanted: it is measured on a few rows
SAMPLE = 50_000  # rows that the directions are found by
TOGETHER = 512  # questions that are answered at once
WIDTHS = (32, 64, 96, 128, 192, 256)  # dimensions to try
CANDIDATES = (2, 3, 4, 6, 9, 12, 24)  # for each neighbour that is wanted
PROBED = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)  # cells to look into
CELL_WIDTH = 32  # dimensions by which rows belong to cells
# Prices, where a number costs 1 in a product of all rows with many questions:
CHOSEN = 30  # a row that is one of all, to be compared with the best so far
SCANNED = 3  # a number that is read in a cell
GATHERED = 20  # a number that is read here and there


@dataclass(frozen=True)
class Plan:
    """How rows are searched."""

    work: float  # of a question
    width: int = 0  # dimensions that are compared first; 0: all, and that is the score
    candidates: int = 0  # whose scores are computed, for each neighbour that is wanted
    cells: int = 0  # that are looked into; 0: all rows


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
        self.num = min(num, len(x) - 1)
        self.middle: Floats | None = x.mean(0) if metric == "euclidean" else None
        self.x: Floats = np.asarray(x) if self.middle is None else _lifted(x - self.middle)
        self.lifted = int(self.middle is not None)
        draw = np.random.default_rng(0)
        self.directions = self._principal(draw)
        self.reduced = self.x @ self.directions
        self.cells = self._cells()
        self.plan = min(self._plans(draw, recall + SPARE), key=lambda each: each.work)
        self.reduced = np.ascontiguousarray(self.reduced[:, : self.plan.width])
        if self.plan.cells and self.cells is not None:
            self.reduced = self.reduced[self.cells.rows]
            self.nearest(x[:1], self.num)  # compiled now, so that no question waits for it

    def nearest(self, questions: Floats, num: int) -> tuple[Ints, Floats]:
        """(Q, D) -> the places of about the `num` nearest, nearest first, and their scores: exactly
        those where more are asked for than recall was measured of, or the cells hold fewer."""
        asked, num = self._asked(questions), min(num, len(self.x))
        if not self.plan.width or num > self.num:
            return nearest(self.x, asked, num)
        parts = (asked[i : i + TOGETHER] for i in range(0, max(len(asked), 1), TOGETHER))
        found = zip(*(self._through(part, num) for part in parts), strict=True)
        place, score = map(np.concatenate, found)
        few = place[:, -1] < 0
        if few.any():
            place[few], score[few] = nearest(self.x, asked[few], num)
        return place, score

    def _asked(self, questions: Floats) -> Floats:
        """Questions as the rows are."""
        if self.middle is None:
            return np.ascontiguousarray(questions)
        ones = np.ones((len(questions), 1), np.float32)
        return np.hstack([ones, questions - self.middle])

    def _through(self, questions: Floats, num: int) -> tuple[Ints, Floats]:
        """Through fewer dimensions, of as many questions as are looked at together."""
        plan, short = self.plan, questions @ self.directions
        most = plan.candidates * num
        if plan.cells and self.cells is not None:
            cells = self.cells.nearest(self._direct(short), plan.cells)
            asked = Asked(np.ascontiguousarray(short[:, : plan.width]), questions, cells)
            laid = Laid(self.cells.starts, self.cells.rows, self.reduced, self.x)
            found: tuple[Ints, Floats] = search(asked, laid, most, num)
            return found
        rough, _ = nearest(self.reduced, short[:, : plan.width], most)
        scores: Floats = np.matmul(self.x[rough], questions[:, :, None])[:, :, 0]
        order = np.lexsort((rough, -scores), axis=1)[:, :num]
        return np.take_along_axis(rough, order, 1), np.take_along_axis(scores, order, 1)

    # -- how -------------------------------------------------------------------------------------

    def _principal(self, draw: np.random.Generator) -> Floats:
        """(D, W) for the largest W to try, the first direction first; what was lifted is as it is,
        and stands before them."""
        size, dim = self.x.shape
        most = max((width for width in WIDTHS if width < dim and size >= FEWEST), default=0)
        found = np.zeros((dim, most), np.float32)
        if not most:
            return found
        some = np.sort(draw.choice(size, min(SAMPLE, size), replace=False))
        few = self.x[some, self.lifted :]
        _, vectors = np.linalg.eigh((few.T @ few).astype(np.float64))
        found[: self.lifted, : self.lifted] = 1
        found[self.lifted :, self.lifted :] = vectors[:, ::-1][:, : most - self.lifted]
        return found

    def _direct(self, short: Floats) -> Floats:
        """What cells are of: the first directions, without what was lifted."""
        return short[:, self.lifted : CELL_WIDTH + self.lifted]

    def _cells(self) -> Cells | None:
        num = int(len(self.x) ** 0.5)
        return Cells(self._direct(self.reduced), num) if self.directions.shape[1] else None

    def _plans(self, draw: np.random.Generator, recall: float) -> Iterator[Plan]:
        """All that find enough of the neighbours of a few rows."""
        size, dim = self.x.shape
        yield Plan(size * (dim + CHOSEN))
        if self.cells is None:
            return
        rows = np.sort(draw.choice(size, min(ASKED, size), replace=False))  # (A,)
        asked = self.x[rows].copy()
        asked[:, : self.lifted] = 1
        truth = _others(rows, nearest(self.x, asked, self.num + 1)[0])  # (A, num)
        short = asked @ self.directions
        probed = [num for num in PROBED if num < len(self.cells.centres)]
        order = self.cells.nearest(self._direct(short), max(probed))  # (A, P)
        in_cell = _rank(order, self.cells.cell[truth])  # (A, num)
        for width in (each for each in WIDTHS if each < dim):
            rough, _ = nearest(
                self.reduced[:, :width], short[:, :width], max(CANDIDATES) * self.num + 1
            )
            among = _rank(_others(rows, rough), truth)  # (A, num)
            for candidates in CANDIDATES:
                found = among < candidates * self.num
                after = GATHERED * candidates * self.num * dim
                if found.mean() >= recall:
                    yield Plan(size * (width + CHOSEN) + after, width, candidates)
                for num in probed:
                    if (found & (in_cell < num)).mean() >= recall:
                        read = num * size / len(self.cells.centres)
                        before = len(self.cells.centres) * (CELL_WIDTH + CHOSEN)
                        work = before + read * width * SCANNED + after
                        yield Plan(work, width, candidates, num)
                        break


def _others(rows: Ints, found: Ints) -> Ints:
    """(A, K + 1) places that rows found -> (A, K), themselves left out."""
    kept = found != rows[:, None]
    kept[kept.all(1), -1] = False
    return found[kept].reshape(len(rows), -1)


def _rank(order: Ints, wanted: Ints) -> Ints:
    """Where each of `wanted` (A, K) stands in its row of `order` (A, M); M where it does not."""
    same = order[:, None, :] == wanted[:, :, None]  # (A, K, M)
    return np.where(same.any(2), same.argmax(2), order.shape[1])


def _lifted(x: Floats) -> Floats:
    """(N, D) -> (N, D + 1), whose first is -|x|^2 / 2."""
    half = np.einsum("nd,nd->n", x, x) / 2
    return np.hstack([-half[:, None], x])
