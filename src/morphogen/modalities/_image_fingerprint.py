r"""Recognising a picture after it was re-encoded, resized, slightly cropped or mirrored.

A perceptual hash: the signs of the 128 lowest frequencies of the discrete cosine transform

    C = B x B^T,   B[u, i] = cos(pi (i + 1/2) u / n)          (Zauner 2010 calls it pHash)

of the grey picture at n x n pixels. Mirroring flips the signs of the odd horizontal frequencies. A
crop moves all signs, so the picture is hashed as it is and as it would be after a few small crops.

Hashes choose pairs that are worth a closer look: the likeness of two pictures is the largest
correlation of their details (the thumbnail less its local mean) over crops of the one laid on the
other, found by moving the edges of the crop uphill. Details, unlike low frequencies, tell two
shirts apart.

Legend: N pairs, V views, S = SIDE.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor
from torch.nn import functional as F

from morphogen.core.codec import Fingerprint
from morphogen.modalities._image_convert import TOP, deep_in_mode, in_mode, raw, squeezed

SIDE = 32
NUM_BITS = 128
KEY_RADIUS = 22  # bits of 128
SAME_FROM = 0.985
FINE, WIDE = 3, 9  # details are the mean over FINE pixels less the mean over WIDE
CUT, CENTRES = 0.06, (0.033, 0.07)  # parts of a side that the views leave out
STEPS = (0.03, 0.015)  # parts of a side by which the edges of a crop are moved
WORTH_IT = 0.87  # a pair less alike than this in the view that brought it here is left alone
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
    """(N, S * S), (N, S * S) and (N,): the best correlation over crops and mirroring, (N,)."""
    found = torch.empty(len(first))
    for start in range(0, len(first), CHUNK):
        part = slice(start, start + CHUNK)
        found[part] = _likeness(_thumbnails(first[part]), _thumbnails(second[part]), key[part])
    return found


def _likeness(a: Tensor, b: Tensor, key: Tensor) -> Tensor:
    views = torch.tensor(_views(), dtype=torch.float32)
    turned = (key >= len(views))[:, None]
    a = torch.where(turned[..., None, None], a.flip(-1), a)
    boxes = views[key % len(views)]  # left, top, right, bottom
    # The view of the mirror image shows what the mirrored view shows, from its other side.
    boxes = torch.where(turned, torch.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0],
                                             boxes[:, 3]], 1), boxes)  # fmt: skip
    target = _standard(b)
    best = (_standard(_seen(a, boxes)) * target).sum(1)
    close = ((best > WORTH_IT) & (best < SAME_FROM)).nonzero().flatten()
    if len(close):
        best[close] = _climbed(a[close], target[close], boxes[close], best[close])
    return best


def _climbed(a: Tensor, target: Tensor, boxes: Tensor, best: Tensor) -> Tensor:
    """The correlation after moving the edges of the crop of `a`, one at a time, uphill."""
    for step in STEPS:
        for edge in range(4):
            for move in (-step, step):
                moved = boxes.clone()
                moved[:, edge] = (moved[:, edge] + move).clamp(0, 1)
                found = (_standard(_seen(a, moved)) * target).sum(1)
                better = found > best
                best = torch.where(better, found, best)
                boxes = torch.where(better[:, None], moved, boxes)
    return best


def _seen(x: Tensor, boxes: Tensor) -> Tensor:
    """(N, 1, S, S) -> what is in the boxes (N, 4), at the same size."""
    left, top, right, bottom = boxes.T
    zero = torch.zeros_like(left)
    across = torch.stack([right - left, zero, right + left - 1], 1)
    down = torch.stack([zero, bottom - top, bottom + top - 1], 1)
    grid = F.affine_grid(
        torch.stack([across, down], 1), [len(x), 1, SIDE, SIDE], align_corners=False
    )
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _thumbnails(detail: Tensor) -> Tensor:
    return detail.view(-1, 1, SIDE, SIDE).float()


def _standard(x: Tensor) -> Tensor:
    """(N, 1, S, S) -> what differs from the local mean, as vectors of length 1."""
    smooth, local = (
        F.avg_pool2d(F.pad(x, (side // 2,) * 4, mode="replicate"), side, 1) for side in (FINE, WIDE)
    )
    values = (smooth - local).flatten(1)
    values = values - values.mean(1, keepdim=True)
    return values / values.norm(dim=1, keepdim=True).clamp_min(1e-6)


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
    _, _, rows, columns = np.array(order[1 : NUM_BITS + 1]).T
    number = int(max(rows.max(), columns.max())) + 1
    cosines = np.cos(np.outer(np.arange(number), np.arange(SIDE) + 0.5) * (math.pi / SIDE))
    down = np.stack([cosines @ _cut(top, bottom) for _, top, _, bottom in _views()])
    across = np.stack([(cosines @ _cut(left, right)).T for left, _, right, _ in _views()])
    return down.astype(np.float32), across.astype(np.float32), rows, columns


def _cut(low: float, high: float) -> np.ndarray:
    """(S, S): linear interpolation of S values at the places of S others between low and high."""
    places = (low + (np.arange(SIDE) + 0.5) / SIDE * (high - low)) * SIDE - 0.5
    distance = np.abs(places.clip(0, SIDE - 1)[:, None] - np.arange(SIDE))
    weights: np.ndarray = np.maximum(0, 1 - distance)
    return weights
