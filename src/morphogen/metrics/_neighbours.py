r"""Distances between items, a block at a time: what metrics that count neighbours share.

    |a - b|^2 = |a|^2 + |b|^2 - 2 <a, b>

One matrix product, but the difference of large numbers where the items are far from the origin and
near to each other. So: float64, about the mean of the reference. What rounding still leaves, about
1e-15 (|a|^2 + |b|^2), is covered by `SLACK`: balls are closed, and an item that lies on the border
(a tie, or one of many copies, whose balls have radius 0) is inside, in whatever order items come.

Legend: N, M items, D features, k which neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from morphogen.core.errors import MeasurementError

BLOCK_VALUES = 2**20  # distances in a block: 8 MB
SLACK = 1e-13


def centred(features: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets in float64 about the mean of the reference, which keeps distances as they are."""
    mean = reference.double().mean(0)
    return features.double() - mean, reference.double() - mean


def squared_distances(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of |x_i - y_j|^2: which rows of x, and (rows, M). (N, D), (M, D) as from `centred`."""
    y_norms = y.square().sum(1)
    rows = max(1, BLOCK_VALUES // len(y))
    for start in range(0, len(x), rows):
        block = slice(start, min(start + rows, len(x)))
        squares = torch.addmm(y_norms, x[block], y.T, alpha=-2)  # (rows, M)
        yield block, squares.add_(x[block].square().sum(1, keepdim=True))


def squared_radii(x: Tensor, num_neighbours: int) -> Tensor:
    """Squared distance of each item to its k-th neighbour, itself not counted: (N, D) -> (N,)."""
    radii = x.new_empty(len(x))
    for block, squares in squared_distances(x, x):
        squares.diagonal(block.start).fill_(torch.inf)
        nearest = squares.topk(num_neighbours, dim=1, largest=False).values
        radii[block] = nearest[:, -1].clamp(min=0)
    return radii + SLACK * (radii + x.square().sum(1))


def check_neighbours(num_neighbours: int, **sets: Tensor) -> None:
    """Raise `MeasurementError` unless every item of every set has as many neighbours."""
    if num_neighbours < 1:
        raise MeasurementError(
            "no neighbours to measure with", found=num_neighbours, expected="num_neighbours >= 1"
        )
    for name, items in sets.items():
        if len(items) <= num_neighbours:
            raise MeasurementError(
                f"too few items of {name} for so many neighbours",
                found=f"{len(items)} items, num_neighbours={num_neighbours}",
                expected=f"at least {num_neighbours + 1} items",
                hint=f"measure more items, or pass num_neighbours={max(len(items) - 1, 1)}",
            )
