r"""Recognising a picture after it was re-encoded, resized, slightly cropped or mirrored.

A perceptual hash: the signs of the 128 lowest frequencies of the discrete cosine transform

    C = B x B^T,   B[u, i] = cos(pi (i + 1/2) u / n)          (Zauner 2010 calls it pHash)

of the grey picture at n x n pixels. Mirroring flips the signs of the odd horizontal frequencies. A
crop moves all signs, so the picture is hashed as it is and as it would be after a few small crops.

Hashes choose pairs that are worth a closer look: the likeness of two pictures is the largest
correlation of their details (the thumbnail less its local mean) over crops of the one laid on the
other. Details, unlike low frequencies, tell two shirts apart. With details d(e) of the crop with
the four edges e, and t of the other picture, the edges are moved by least squares (Lucas & Kanade
1981):

    t = gain (d(e) + J step),   J = dd/de   ->   e + step

The correlation that this fit reaches says early which pairs are not worth another step.

Among many pictures, most pairs are ruled out before: by the coarse details, the lowest frequencies
of d, which move little when a picture is cropped. First one product of those of the middle view
with t's; then, of the pairs whose hashes are near, what the first fit of coarse details promises.
All coarse details of a picture, and how they change as edges move, are one linear map of it.

Legend: N pairs, V views, S = SIDE, R = S * S, C coarse details.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from morphogen.core.codec import Fingerprint
from morphogen.modalities.image.convert import TOP, deep_in_mode, in_mode, raw, squeezed

SIDE = 32
NUM_BITS = 128
KEY_RADIUS = 22  # bits of 128
SAME_FROM = 0.9925
FINE, WIDE = 3, 13  # details are the mean over FINE pixels less the mean over WIDE
CUT, CENTRES = 0.06, (0.033, 0.07)  # parts of a side that the views leave out
ROUNDS, STEP = 4, 0.04  # steps of the edges of a crop, each a part of a side at most
# A pair that the first, second, ... fit does not promise to make more alike is left alone. Of those
# that are recognised in the end, the first fit promises 0.96 at least, the second 0.984.
PROMISING = (0.96, 0.98, 0.985, 0.985)
# Coarse details are waves of fewer than COARSE half periods along both sides together. 6,448 twins
# (twelve kinds, Fashion-MNIST and CIFAR-10) that are recognised in the end all agree with the
# middle view to 0.59 at least, and their first fit promises 0.976; of different pictures of
# Fashion-MNIST a fourteenth agrees so, and of those whose hashes are near as well a fifth promises.
COARSE, COARSE_FROM, COARSE_PROMISING = 10, 0.58, 0.974
MIDDLE = 9  # the view that is nearest to all others
PAIRS = 4096  # whose coarse details are fitted at once
DAMPING = 1e-3  # of the fit: edges that show nothing stay where they are
FLAT = 1.5  # standard deviation of grey levels below which a picture shows nothing
CHUNK = 256


def fingerprint(value: Any) -> Fingerprint | None:
    """The hashes of a picture's views, then of their mirror images, and its thumbnail."""
    small = _grey(raw(value)).resize((SIDE, SIDE), Pillow.Resampling.BILINEAR)
    plane = np.asarray(small, np.float32)
    if plane.std() < FLAT:
        return None
    down, across, rows, columns = _transforms()
    waves = (down @ plane @ across)[:, rows, columns]  # (V, NUM_BITS)
    both = np.concatenate([waves, np.where(columns % 2, -waves, waves)])
    keys = np.packbits(both > 0, axis=1)
    detail = np.clip(np.rint(plane), 0, 255).astype(np.uint8)
    return Fingerprint(tuple(key.tobytes() for key in keys), detail.tobytes())


def likeness(first: Tensor, second: Tensor, key: Tensor) -> Tensor:
    """(N, R), (N, R) and (N,): the best correlation over crops and mirroring, (N,)."""
    found = torch.empty(len(first))
    for start in range(0, len(first), CHUNK):
        part = slice(start, start + CHUNK)
        a, edges = _seen_as(_thumbnails(first[part]), key[part])
        target = _standard(_details(_thumbnails(second[part])))
        found[part] = _fitted(a, edges, target)
    return found


def coarse(detail: Tensor) -> Tensor:
    """(N, R) uint8 -> the coarse details of the whole, vectors of length 1, (N, C)."""
    return _unit(detail.float() @ _coarse_views()[0, 0].T)


def coarse_views(detail: Tensor) -> Tensor:
    """(N, R) uint8 -> the coarse details of what most views share, and of its mirror image,
    vectors of length 1, (N, 2, C)."""
    seen = _unit(detail.float() @ _coarse_views()[MIDDLE, 0].T)
    return torch.stack([seen, seen * _mirror()], 1)


@torch.no_grad()
def promising(
    first: Tensor, second: Tensor, i: np.ndarray, j: np.ndarray, key: np.ndarray
) -> np.ndarray:
    """Which pairs of details `first` (N, R) and coarse details `second` (M, C) are worth
    `likeness`, (P,): those for which a fit of the coarse details promises enough.

    What a fit promises is how much of t lies in the span of d and J. It is the length of L^-1 along
    t, with the rows d and J in `along`, and along along^T = L L^T but for the damping.
    """
    num_views = len(_views())
    along = first.float() @ _coarse_views().flatten(0, 2).T
    along = along.view(len(first), num_views, 5, -1)  # (N, V, 5, C)
    gram = along @ along.mT
    damped = gram + torch.diag_embed(_damping(gram))
    basis = torch.linalg.solve_triangular(torch.linalg.cholesky(damped), along, upper=False)
    places, others, views = (torch.from_numpy(each) for each in (i, j, key))
    kept = []
    for part in torch.split(torch.arange(len(i)), PAIRS):
        target = second[others[part]]
        turned = views[part] >= num_views
        target = torch.where(turned[:, None], target * _mirror(), target)
        within = basis[places[part], views[part] % num_views] @ target[..., None]  # (P, 5, 1)
        kept.append(within.square().sum((1, 2)) > COARSE_PROMISING**2)
    return torch.cat([*kept, torch.zeros(0, dtype=torch.bool)]).numpy()


def _seen_as(a: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Thumbnails (N, S, S), mirrored where the key is that of a mirrored view, and the view's edges
    (N, 4)."""
    views = torch.tensor(_views(), dtype=torch.float32)
    turned = key >= len(views)
    a = torch.where(turned[:, None, None], a.flip(-1), a)
    edges = views[key % len(views)]  # left, top, right, bottom
    # The view of the mirror image shows what the mirrored view shows, from its other side.
    edges = torch.where(turned[:, None], torch.stack([1 - edges[:, 2], edges[:, 1],
                                                      1 - edges[:, 0], edges[:, 3]], 1),
                        edges)  # fmt: skip
    return a, edges


def _damping(gram: Tensor) -> Tensor:
    return DAMPING * gram.diagonal(dim1=-2, dim2=-1) + 1e-6


def _fitted(a: Tensor, edges: Tensor, target: Tensor) -> Tensor:
    """The best correlation (N,) with `target` (N, R) while the crop of `a` (N, S, S) is fitted."""
    best = a.new_full((len(a),), -1.0)
    open_ = torch.arange(len(a))  # the pairs that are still worth a step
    for number in range(ROUNDS + 1):
        along = _with_slopes(_seen(a[open_], edges), edges)  # (N, 5, R)
        gram = along @ along.mT  # (N, 5, 5)
        onto = along @ target[open_, :, None]  # (N, 5, 1)
        reached = onto[:, 0, 0] / gram[:, 0, 0].sqrt().clamp_min(1e-6)
        best[open_] = torch.maximum(best[open_], reached)
        if number == ROUNDS or not len(open_):
            break
        weights = torch.linalg.solve(gram + torch.diag_embed(_damping(gram)), onto)
        promised = (weights * onto).sum((1, 2)).clamp_min(0).sqrt()
        gain, moves = weights[:, 0], weights[:, 1:, 0]
        on = (promised > PROMISING[number]) & (gain[:, 0] > 0)
        edges = (edges + (moves / gain).clamp(-STEP, STEP)).clamp(0, 1)[on]
        open_ = open_[on]
    return best


def _seen(x: Tensor, edges: Tensor) -> Tensor:
    """(N, S, S) -> what is between the edges (N, 4), at the same size."""
    left, top, right, bottom = edges.T
    return _interpolation(top, bottom) @ x @ _interpolation(left, right).mT


def _interpolation(low: Tensor, high: Tensor) -> Tensor:
    """(N,) and (N,) -> (N, S, S): linear interpolation of S values at S places between the two."""
    places = (low[:, None] + _middles() * (high - low)[:, None]) * SIDE - 0.5
    distance = places.clamp(0, SIDE - 1)[..., None] - torch.arange(SIDE)
    return distance.abs_().neg_().add_(1).relu_()


def _details(x: Tensor) -> Tensor:
    """(N, S, S) -> what differs from the local mean, (N, R)."""
    fine, wide = (each[:SIDE] for each in _filters())
    return (fine @ x @ fine.T - wide @ x @ wide.T).flatten(1)


def _with_slopes(x: Tensor, edges: Tensor) -> Tensor:
    """The details of what is seen between the edges, less their mean, and how they change when the
    left, top, right and bottom edge moves, (N, 5, R)."""
    fine, wide = _filters()
    across = (fine[:SIDE] @ x @ fine.T - wide[:SIDE] @ x @ wide.T).chunk(3, dim=2)
    down = (fine @ x @ fine[:SIDE].T - wide @ x @ wide[:SIDE].T).chunk(3, dim=1)
    width, height = ((edges[:, i + 2] - edges[:, i])[:, None, None] for i in (0, 1))
    parts = (across[0], across[1] / width, down[1] / height, across[2] / width, down[2] / height)
    along = torch.stack([part.flatten(1) for part in parts], 1)
    return along - along.mean(2, keepdim=True)


@functools.cache
def _coarse_views() -> Tensor:
    """What leads from a thumbnail to the coarse details of every view, and to how they change when
    its left, top, right and bottom edge moves, (V, 5, C, R)."""
    rows, columns = _coarse_waves()
    frequency, middle = np.arange(COARSE), np.arange(SIDE) + 0.5
    waves = np.cos(np.outer(frequency, middle) * (math.pi / SIDE)) * math.sqrt(2 / SIDE)
    waves[0] /= math.sqrt(2)
    low = torch.from_numpy(waves).float()
    left, top, right, bottom = torch.tensor(_views()).T
    down, across = _interpolation(top, bottom), _interpolation(left, right)  # (V, S, S)
    parts = torch.zeros(len(_views()), 5, len(rows), SIDE, SIDE)
    for means, sign in zip(_filters(), (1, -1), strict=True):
        moved = (low @ means.view(3, SIDE, SIDE))[:, None]  # (3, 1, F, S)
        of_rows, of_columns = (moved @ down)[:, :, rows], (moved @ across)[:, :, columns]
        for number, (row, column) in enumerate(((0, 0), (0, 1), (1, 0), (0, 2), (2, 0))):
            part = of_rows[row][..., :, None] * of_columns[column][..., None, :]
            parts[:, number] += sign * part
    width, height = ((high - low)[:, None, None, None, None] for low, high in
                     ((left, right), (top, bottom)))  # fmt: skip
    parts[:, 1::2] /= width
    parts[:, 2::2] /= height
    return parts.flatten(3)


@functools.cache
def _coarse_waves() -> tuple[Tensor, Tensor]:
    """Row and column of the lowest frequencies but the mean, (C,) each."""
    pairs = [(u, v) for u in range(COARSE) for v in range(COARSE - u) if u + v]
    rows, columns = torch.tensor(pairs).T
    return rows, columns


@functools.cache
def _mirror() -> Tensor:
    """The signs that mirror coarse details, (C,)."""
    return 1.0 - 2 * (_coarse_waves()[1] % 2)


def _thumbnails(detail: Tensor) -> Tensor:
    return detail.view(-1, SIDE, SIDE).float()


def _standard(x: Tensor) -> Tensor:
    """(N, R) -> the same less their mean, as vectors of length 1."""
    x = x - x.mean(1, keepdim=True)
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-6)


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-6)


def _grey(value: Any) -> Pillow.Image:
    """Any raw picture -> grey, 8 bits or floating point in [0, 255]; transparency on white."""
    if isinstance(value, Pillow.Image) and value.mode == "I;16":
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype != np.uint8:
        plane = value if value.ndim == 2 else squeezed(deep_in_mode(value, "L"))
        return Pillow.fromarray(plane.astype(np.float32) * np.float32(255 / TOP[value.dtype]))
    picture = value if isinstance(value, Pillow.Image) else Pillow.fromarray(squeezed(value))
    return in_mode(picture, "L")


@functools.cache
def _views() -> tuple[tuple[float, float, float, float], ...]:
    """Left, top, right, bottom in parts of a side: the whole, its centre, corners and sides."""
    whole, near, far = (0.0, 1.0), (CUT, 1.0), (0.0, 1 - CUT)
    ranges = [(x, y) for x in (whole, near, far) for y in (whole, near, far)]
    ranges += [((edge, 1 - edge),) * 2 for edge in CENTRES]
    return tuple((x[0], y[0], x[1], y[1]) for x, y in ranges)


@functools.cache
def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For every view, cosines times the interpolation that cuts it out, along columns (V, F, S) and
    rows (V, S, F); then row and column of the lowest frequencies but the mean."""
    order = sorted((u + v, max(u, v), u, v) for u in range(SIDE) for v in range(SIDE))
    chosen = order[1 : NUM_BITS + 1]
    # Even columns first, the finest foremost: an order like any other, which ledgers have kept.
    _, _, rows, columns = np.array(sorted(chosen, key=lambda each: (each[3] % 2, -each[0]))).T
    number = int(max(rows.max(), columns.max())) + 1
    cosines = np.cos(np.outer(np.arange(number), np.arange(SIDE) + 0.5) * (math.pi / SIDE))
    left, top, right, bottom = torch.tensor(_views()).T
    down = cosines @ _interpolation(top, bottom).numpy()
    across = (cosines @ _interpolation(left, right).numpy()).swapaxes(1, 2)
    return down.astype(np.float32), across.astype(np.float32), rows, columns


@functools.cache
def _middles() -> Tensor:
    """The middles of S pixels in parts of a side, (S,)."""
    return (torch.arange(SIDE) + 0.5) / SIDE


@functools.cache
def _filters() -> tuple[Tensor, Tensor]:
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
