r"""What is seen of a thumbnail between four edges, and how it changes as an edge moves.

Details are the mean over FINE pixels less the mean over WIDE: unlike low frequencies, they tell two
shirts apart. With details d(e) of the crop with the four edges e, and t of another picture, the
edges are moved by least squares (Lucas & Kanade 1981):

    t = gain (d(e) + J step),   J = dd/de   ->   e + step

How much of t lies in the span of d and J is the correlation that this fit promises: it says early
which pairs are not worth another step.

Legend: N pairs, V views, S = SIDE, R = S * S, C values of details.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

SIDE = 32
FINE, WIDE = 3, 13
CUT, CENTRES = 0.06, (0.033, 0.07)  # parts of a side that the views leave out
STEP = 0.04  # of an edge, a part of a side at most
DAMPING = 1e-3  # of the fit: edges that show nothing stay where they are


@functools.cache
def views() -> tuple[tuple[float, float, float, float], ...]:
    """Left, top, right, bottom in parts of a side: the whole, its centre, corners and sides."""
    whole, near, far = (0.0, 1.0), (CUT, 1.0), (0.0, 1 - CUT)
    ranges = [(x, y) for x in (whole, near, far) for y in (whole, near, far)]
    ranges += [((edge, 1 - edge),) * 2 for edge in CENTRES]
    return tuple((x[0], y[0], x[1], y[1]) for x, y in ranges)


def seen(x: Tensor, edges: Tensor) -> Tensor:
    """(N, S, S) -> what is between the edges (N, 4), at the same size."""
    left, top, right, bottom = edges.T
    return interpolation(top, bottom) @ x @ interpolation(left, right).mT


def details(x: Tensor) -> Tensor:
    """(N, S, S) -> what differs from the local mean, (N, R)."""
    fine, wide = (each[:SIDE] for each in filters())
    return (fine @ x @ fine.T - wide @ x @ wide.T).flatten(1)


def with_slopes(x: Tensor, edges: Tensor) -> Tensor:
    """The details of what is seen between the edges, less their mean, and how they change when the
    left, top, right and bottom edge moves, (N, 5, R)."""
    fine, wide = filters()
    across = (fine[:SIDE] @ x @ fine.T - wide[:SIDE] @ x @ wide.T).chunk(3, dim=2)
    down = (fine @ x @ fine[:SIDE].T - wide @ x @ wide[:SIDE].T).chunk(3, dim=1)
    width, height = ((edges[:, i + 2] - edges[:, i])[:, None, None] for i in (0, 1))
    parts = (across[0], across[1] / width, down[1] / height, across[2] / width, down[2] / height)
    along = torch.stack([part.flatten(1) for part in parts], 1)
    return along - along.mean(2, keepdim=True)


def interpolation(low: Tensor, high: Tensor) -> Tensor:
    """(N,) and (N,) -> (N, S, S): linear interpolation of S values at S places between the two."""
    places = (low[:, None] + _middles() * (high - low)[:, None]) * SIDE - 0.5
    distance = places.clamp(0, SIDE - 1)[..., None] - torch.arange(SIDE)
    return distance.abs_().neg_().add_(1).relu_()


def step(gram: Tensor, onto: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """One fit: products of d and J with themselves (N, 5, 5) and with t (N, 5, 1), edges (N, 4) ->
    the correlation it promises, (N,), -1 where only the negative would be alike; edges moved."""
    weights = torch.linalg.solve(damped(gram), onto)
    gain = weights[:, 0]
    promised = (weights * onto).sum((1, 2)).clamp_min(0).sqrt()
    return promised.where(gain[:, 0] > 0, -1), moved(edges, weights)


def moved(edges: Tensor, weights: Tensor) -> Tensor:
    """Edges (N, 4) after the step that the weights (N, 5, 1) of a fit say."""
    gain, moves = weights[:, 0], weights[:, 1:, 0]
    return (edges + (moves / gain).clamp(-STEP, STEP)).clamp(0, 1)


def damped(gram: Tensor) -> Tensor:
    """Products of slopes (*, 5, 5), with a little more on the diagonal."""
    return gram + torch.diag_embed(DAMPING * gram.diagonal(dim1=-2, dim2=-1) + 1e-6)


@functools.cache
def _middles() -> Tensor:
    """The middles of S pixels in parts of a side, (S,)."""
    return (torch.arange(SIDE) + 0.5) / SIDE


@functools.cache
def filters() -> tuple[Tensor, Tensor]:
    """The means over FINE and over WIDE pixels along one axis, each (3 S, S): of the values, then
    of how they change as the low edge moves, then the high one."""
    pixel, last, one = torch.arange(SIDE), SIDE - 1, torch.eye(SIDE)
    before, after = (pixel - 1).clamp_min(0), (pixel + 1).clamp_max(last)
    slope = SIDE * (one[after] - one[before]) / (after - before)[:, None]
    middles = _middles()[:, None]
    moved = torch.stack([one, (1 - middles) * slope, middles * slope])  # (3, S, S)

    def means(side: int) -> Tensor:
        around = pixel[:, None] + torch.arange(side) - side // 2
        return (one[around.clamp(0, last)].mean(1) @ moved).flatten(0, 1)

    return means(FINE), means(WIDE)


def unit(x: Tensor) -> Tensor:
    """(*, C) -> vectors of length 1."""
    return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-6)
