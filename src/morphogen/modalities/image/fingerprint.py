r"""Recognising a picture after it was re-encoded, resized, slightly cropped or mirrored.

A perceptual hash: the signs of the 128 lowest frequencies of the discrete cosine transform

    C = B x B^T,   B[u, i] = cos(pi (i + 1/2) u / n)          (Zauner 2010 calls it pHash)

of the grey picture at n x n pixels. Mirroring flips the signs of the odd horizontal frequencies. A
crop moves all signs, so the picture is hashed as it is and as it would be after a few small crops.

Hashes choose pairs that are worth a closer look: the likeness of two pictures is the largest
correlation of their details over crops of the one laid on the other, whose edges are fitted
(`details.py`). Among many pictures, most pairs are ruled out before (`coarse.py`).

Legend: N pairs, V views, S = SIDE, R = S * S.
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
from morphogen.modalities.image.convert import (
    TOP,
    deep_in_mode,
    in_mode,
    pixels,
    raw,
    squeezed,
)
from morphogen.modalities.image.details import (
    SIDE,
    details,
    interpolation,
    seen,
    step,
    views,
    with_slopes,
)

NUM_BITS = 128
KEY_RADIUS = 22  # bits of 128
SAME_FROM = 0.9925
# A pair that the first, second, ... fit does not promise to make more alike is left alone. Of those
# that are recognised in the end, the first fit promises 0.96 at least, the second 0.984.
PROMISING = (0.96, 0.98, 0.985, 0.985)
FLAT = 1.5  # standard deviation of grey levels below which a picture shows nothing
CHUNK = 128  # pairs at once, which stay in the processor's cache


def fingerprint(value: Any) -> Fingerprint | None:
    """The hashes of a picture's views, then of their mirror images, and its thumbnail."""
    small = _grey(raw(value)).resize((SIDE, SIDE), Pillow.Resampling.BILINEAR)
    plane = pixels(small).astype(np.float32)
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
        target = _standard(details(_thumbnails(second[part])))
        found[part] = _fitted(a, edges, target)
    return found


def _seen_as(a: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Thumbnails (N, S, S), mirrored where the key is that of a mirrored view, and the view's edges
    (N, 4)."""
    all_views = torch.tensor(views())
    turned = key >= len(all_views)
    a = torch.where(turned[:, None, None], a.flip(-1), a)
    edges = all_views[key % len(all_views)]  # left, top, right, bottom
    # The view of the mirror image shows what the mirrored view shows, from its other side.
    edges = torch.where(turned[:, None], torch.stack([1 - edges[:, 2], edges[:, 1],
                                                      1 - edges[:, 0], edges[:, 3]], 1),
                        edges)  # fmt: skip
    return a, edges


def _fitted(a: Tensor, edges: Tensor, target: Tensor) -> Tensor:
    """The best correlation (N,) with `target` (N, R) while the crop of `a` (N, S, S) is fitted."""
    best = a.new_full((len(a),), -1.0)
    open_ = torch.arange(len(a))  # the pairs that are still worth a step
    for number in range(len(PROMISING) + 1):
        along = with_slopes(seen(a[open_], edges), edges)  # (N, 5, R)
        gram = along @ along.mT  # (N, 5, 5)
        onto = along @ target[open_, :, None]  # (N, 5, 1)
        reached = onto[:, 0, 0] / gram[:, 0, 0].sqrt().clamp_min(1e-6)
        best[open_] = torch.maximum(best[open_], reached)
        if number == len(PROMISING) or not len(open_):
            break
        promised, edges = step(gram, onto, edges)
        on = promised > PROMISING[number]
        edges = edges[on]
        open_ = open_[on]
    return best


def _thumbnails(detail: Tensor) -> Tensor:
    return detail.view(-1, SIDE, SIDE).float()


def _standard(x: Tensor) -> Tensor:
    """(N, R) -> the same less their mean, as vectors of length 1."""
    x = x - x.mean(1, keepdim=True)
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-6)


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
def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For every view, cosines times the interpolation that cuts it out, along columns (V, F, S) and
    rows (V, S, F); then row and column of the lowest frequencies but the mean."""
    order = sorted((u + v, max(u, v), u, v) for u in range(SIDE) for v in range(SIDE))
    chosen = order[1 : NUM_BITS + 1]
    # Even columns first, the finest foremost: an order like any other, which ledgers have kept.
    _, _, rows, columns = np.array(sorted(chosen, key=lambda each: (each[3] % 2, -each[0]))).T
    number = int(max(rows.max(), columns.max())) + 1
    cosines = np.cos(np.outer(np.arange(number), np.arange(SIDE) + 0.5) * (math.pi / SIDE))
    left, top, right, bottom = torch.tensor(views()).T
    down = cosines @ interpolation(top, bottom).numpy()
    across = (cosines @ interpolation(left, right).numpy()).swapaxes(1, 2)
    return down.astype(np.float32), across.astype(np.float32), rows, columns
