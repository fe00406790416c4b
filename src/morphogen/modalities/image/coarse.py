r"""Ruling out most pairs of pictures before they are compared, by the coarse of their details.

Coarse details are waves of few half periods along both sides: they are one linear map of a
thumbnail, and move little when it is cropped. In turn, and of what the one before left:

1. for all pairs, one product of those of the one's middle view with those of the other;
2. the hashes, which need not be of this file's concern;
3. what the first fit (`details.py`) of coarse details promises at the edges of the view whose hash
   is near: all that it needs is known for each picture and view beforehand;
4. what a second and a third fit of somewhat finer waves promise, at edges moved by the one before.

Cutting out, interpolating and taking means are linear too, rows and columns apart from one another:
for edges on a fine grid, what leads from rows to waves is in a table.

Legend: N, M pictures, P pairs, V views, S = SIDE, R = S * S, F waves of a side, C coarse details.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from morphogen.modalities.image.details import (
    SIDE,
    damped,
    filters,
    interpolation,
    moved,
    step,
    unit,
    views,
)

# Of 12,911 twins (twelve kinds, Fashion-MNIST and CIFAR-10) that are recognised in the end, all but
# two agree with the middle view to 0.59 and have a first fit of 0.974; of different pictures of
# Fashion-MNIST a fourteenth agrees so, and of those whose hashes are near as well a fifth is left.
COARSE, FROM, PROMISING = 10, 0.58, 0.974  # waves have fewer half periods along both sides
# All have a second fit of 0.9868 and a third of 0.9921. Of what is left of Fashion-MNIST, a seventh
# has such a second fit, and a fifth of those such a third.
FINER, LATER = 14, (0.985, 0.99)
MIDDLE = 9  # the view that is nearest to all others
PAIRS = 1024  # whose first fits are done at once
GRID, MOST = 128, 16  # the edges of later fits are so many parts of a side; cuts of MOST of them
# Where waves of rows and of columns are values (0), or slopes as the low (1) or high (2) edge
# moves, for: details, and how they change with the left, the top, the right and the bottom edge.
SLOPES = ((0, 0), (0, 1), (1, 0), (0, 2), (2, 0))
Near = tuple[np.ndarray, np.ndarray, np.ndarray]  # places of pairs in both, the first one's view


def coarse(detail: Tensor) -> Tensor:
    """(N, R) uint8 -> the coarse details of the whole, vectors of length 1, (N, C)."""
    return waves(COARSE).of_whole(detail)


def coarse_views(detail: Tensor) -> Tensor:
    """(N, R) uint8 -> the coarse details of what most views share, and of its mirror image,
    vectors of length 1, (N, 2, C)."""
    shown = unit(detail.float() @ of_views()[MIDDLE, 0].T)
    return torch.stack([shown, shown * waves(COARSE).mirror], 1)


@torch.no_grad()
def promising(first: Tensor, second: Tensor, rough: Tensor, near: Near) -> np.ndarray:
    """Which pairs of details `first` (N, R) and `second` (M, R), whose `coarse` is `rough` (M, C),
    are worth `likeness`, (P,): those for which fits of coarse details promise enough.

    What the first fit promises is the length of L^-1 along t, with the rows d and J in `along`, and
    along along^T = L L^T but for the damping.
    """
    edges = torch.tensor(views())
    along = (first.float() @ of_views().flatten(0, 2).T).view(len(first), len(edges), 5, -1)
    lower = torch.linalg.cholesky(damped(along @ along.mT))  # (N, V, 5, 5)
    basis = torch.linalg.solve_triangular(lower, along, upper=False)
    kept = torch.zeros(len(near[0]), dtype=torch.bool)
    for part in torch.split(torch.arange(len(kept)), PAIRS):
        one, other, view = (torch.from_numpy(each[part.numpy()]) for each in near)
        turned, view = view >= len(edges), view % len(edges)
        onto = basis[one, view] @ waves(COARSE).turned(rough[other], turned)[..., None]
        on = onto.square().sum((1, 2)) > PROMISING**2
        one, other, view, turned, part = (x[on] for x in (one, other, view, turned, part))
        weights = torch.linalg.solve_triangular(lower[one, view].mT, onto[on], upper=True)
        begun = moved(edges[view], weights)
        kept[part[_later(first[one], second[other], turned, begun)]] = True
    return kept.numpy()


def _later(first: Tensor, second: Tensor, turned: Tensor, edges: Tensor) -> Tensor:
    """The places of pairs (P, R) whose later fits promise enough, from the edges (P, 4) on."""
    finer = waves(FINER)
    left, target = torch.arange(len(first)), finer.turned(finer.of_whole(second), turned)
    for least in LATER:
        along = finer.between(first[left], edges)
        promised, edges = step(along @ along.mT, along @ target[left, :, None], edges)
        on = promised > least
        left, edges = left[on], edges[on]
    return left


class Waves:
    """The waves of fewer than `limit` half periods along both sides together, but the mean."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        pairs = [(u, v) for u in range(limit) for v in range(limit - u) if u + v]
        self.rows, self.columns = torch.tensor(pairs).T  # (C,) each
        self.mirror = 1.0 - 2 * (self.columns % 2)  # the signs that mirror coarse details, (C,)
        self.chosen = torch.stack(
            [(a * limit + self.rows) * 3 * limit + b * limit + self.columns for a, b in SLOPES]
        )  # (5, C), in (3 F, 3 F)

    def of_axis(self, low: Tensor, high: Tensor) -> Tensor:
        """What leads from S values along an axis, seen between edges (N,) and (N,), to the waves
        of their fine and of their wide means, and to how these change, (N, 3 F, 2, S)."""
        angles = np.outer(np.arange(self.limit), np.arange(SIDE) + 0.5) * (math.pi / SIDE)
        cosines = np.cos(angles) * math.sqrt(2 / SIDE)
        cosines[0] /= math.sqrt(2)
        means = torch.stack([each.view(3, SIDE, SIDE) for each in filters()], 1)  # (3, 2, S, S)
        maps = (torch.from_numpy(cosines).float() @ means).transpose(1, 2)  # (3, F, 2, S)
        found = (maps.flatten(0, 2) @ interpolation(low, high)).view(len(low), *maps.shape)
        found[:, 1:] /= (high - low)[:, None, None, None, None]
        return found.flatten(1, 2)

    @functools.cached_property
    def tables(self) -> tuple[Tensor, Tensor]:
        """`of_axis` for all cuts on the grid, for rows and, with the sign of the means, columns."""
        cuts = torch.arange(MOST + 1) / GRID
        low, high = torch.meshgrid(cuts, 1 - cuts, indexing="ij")
        table = self.of_axis(low.flatten(), high.flatten())
        return table, table * torch.tensor([1.0, -1.0])[:, None]

    def between(self, detail: Tensor, edges: Tensor) -> Tensor:
        """(N, R) -> the coarse details between the edges (N, 4), moved to the grid, and how they
        change with these, (N, 5, C)."""
        rows, columns = self.tables
        cuts = torch.cat([edges[:, :2], 1 - edges[:, 2:]], 1)
        left, top, right, bottom = (cuts * GRID).round_().long().clamp_(0, MOST).T
        x = detail.view(-1, SIDE, SIDE).float()
        down = rows.index_select(0, top * (MOST + 1) + bottom).flatten(1, 2) @ x  # (N, 6 F, S)
        across = columns.index_select(0, left * (MOST + 1) + right).flatten(2)  # (N, 3 F, 2 S)
        products = down.view(len(x), 3 * self.limit, 2 * SIDE) @ across.mT  # (N, 3 F, 3 F)
        chosen = products.flatten(1).index_select(1, self.chosen.flatten())
        return chosen.view(len(x), 5, len(self.rows))

    def map_of(self, edges: Tensor) -> Tensor:
        """What leads from a thumbnail to the same between edges (N, 4) that no grid has moved,
        (N, 5, C, R)."""
        left, top, right, bottom = edges.T
        down, across = self.of_axis(top, bottom), self.of_axis(left, right)
        across = across * torch.tensor([1.0, -1.0])[:, None]
        parts = [
            torch.einsum("ncfr,ncfs->ncrs", down[:, a * self.limit + self.rows],
                         across[:, b * self.limit + self.columns])
            for a, b in SLOPES
        ]  # fmt: skip
        return torch.stack(parts, 1).flatten(3)

    @functools.cached_property
    def whole(self) -> Tensor:
        """`map_of` of the whole without the slopes, (C, R)."""
        return self.map_of(torch.tensor([[0.0, 0.0, 1.0, 1.0]]))[0, 0]

    def of_whole(self, detail: Tensor) -> Tensor:
        """(N, R) -> the coarse details of the whole, vectors of length 1, (N, C)."""
        return unit(detail.float() @ self.whole.T)

    def turned(self, coarse: Tensor, which: Tensor) -> Tensor:
        """(N, C), some of which (N,) are mirrored."""
        return torch.where(which[:, None], coarse * self.mirror, coarse)


waves = functools.cache(Waves)


@functools.cache
def of_views() -> Tensor:
    """What leads from a thumbnail to the coarse details of every view, and to how they change as
    its left, top, right and bottom edge moves, (V, 5, C, R)."""
    return waves(COARSE).map_of(torch.tensor(views()))
