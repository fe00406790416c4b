r"""Items as vectors in which copies lie close: the views that the copying test takes of them.

    items        the values as they are (tokens: Hamming distance)
    aligned      the nearest of the item mirrored, shifted, and as what a slightly smaller crop was
                 drawn out from, on the part that all of these share
    passages     sequences of tokens: which runs of three tokens occur, wherever they stand
    features     what a feature extractor sees, of the item and its mirror image

What a view does depends on the spec alone: grids are mirrored along their last axis, shifted and
scaled along their last two, sequences are shifted, vectors are neither.

A query is compared in several transforms, a key in one: d(q, key) = min over v of |v(q) - key|.

Legend: N items, V transforms, D values, C channels, L length, M codes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from morphogen.core.spec import TensorSpec
from morphogen.evaluation.features import parts

MOST_VALUES = 1024  # larger items are averaged, or sketched, down to this
SHIFT = {"grid": 2, "sequence": 8, "vector": 0}  # positions, at most
PASSAGE = 3  # tokens in a run

Represent = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class View:
    """`keys` (N, *shape) -> (N, D); `queries` (N, *shape) -> (N, V, D), the item as it is first.

    `coarse` are the transforms that a first search makes do with.
    """

    name: str
    keys: Represent
    queries: Represent
    coarse: tuple[int, ...] = (0,)


def views(spec: TensorSpec, features: Represent | None = None) -> list[View]:
    """The views that fit a spec."""
    found = [View("items", lambda x: flat(x, spec), lambda x: flat(x, spec)[:, None])]
    aligned = _aligned(spec)
    if aligned is not None:
        found.append(aligned)
    if spec.kind == "token" and math.prod(spec.shape) > PASSAGE:
        found.append(View("passages", passages, lambda x: passages(x)[:, None]))
    if features is not None:
        found.append(_featured(spec, features))
    return found


def in_chunks(represent: Represent, x: Tensor) -> Tensor:
    """`represent` over many items, a chunk at a time."""
    return torch.cat([represent(x[index]) for index in parts(len(x))])


def flat(x: Tensor, spec: TensorSpec) -> Tensor:
    """Items (N, *shape) as vectors (N, D): |a - b|^2 is twice the number of unequal tokens, or the
    squared distance of the values, of averages over blocks where there are many."""
    if spec.kind == "token":
        x = x.flatten(1)
        codes = torch.arange(x.shape[1], device=x.device) * (spec.vocab_size or 1) + x
        return _sketch(codes, x.shape[1] * (spec.vocab_size or 1))
    values = _shrink(x, spec).flatten(1)
    if values.shape[1] <= MOST_VALUES:
        return values
    bucket, sign = _hash(torch.arange(values.shape[1], device=x.device))
    out = values.new_zeros(len(values), MOST_VALUES)
    return out.index_add_(1, bucket, values * sign)


def passages(x: Tensor) -> Tensor:
    """Tokens (N, L) -> how often each run of `PASSAGE` tokens occurs, sketched (N, D)."""
    runs = x.flatten(1).unfold(1, PASSAGE, 1)  # (N, L - PASSAGE + 1, PASSAGE)
    code = torch.zeros_like(runs[..., 0])
    for place in range(PASSAGE):
        code = (code * 1_000_003 + runs[..., place] + 1) % (2**31 - 1)
    return _sketch(code, 2**31)


def _sketch(codes: Tensor, num_codes: int) -> Tensor:
    """Codes (N, M) -> counts (N, D): one column each while they are few, else a count sketch
    (Charikar et al. 2002), which keeps distances to within a few per cent and equality exactly."""
    out = torch.zeros(len(codes), min(num_codes, MOST_VALUES), device=codes.device)
    if num_codes <= MOST_VALUES:
        return out.scatter_add_(1, codes, torch.ones_like(codes, dtype=out.dtype))
    bucket, sign = _hash(codes)
    return out.scatter_add_(1, bucket, sign)


def _hash(codes: Tensor) -> tuple[Tensor, Tensor]:
    """A bucket and a sign for every code (multiply, add and shift, modulo a prime)."""
    mixed = (codes % (2**31 - 1)) * 1_103_515_245 + 12_345
    mixed = (mixed % (2**31 - 1)) * 48_271 % (2**31 - 1)
    bucket = (mixed // 2) % MOST_VALUES
    return bucket, 1.0 - 2.0 * (mixed // (2 * MOST_VALUES) % 2).float()


def _shrink(x: Tensor, spec: TensorSpec) -> Tensor:
    """Grids and sequences averaged over blocks of 2 until few values are left; vectors as is."""
    if spec.layout == "vector" or not spec.space:
        return x
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
    rank = len(spec.space)
    while rank <= 3 and x[0].numel() > MOST_VALUES and max(x.shape[2:]) > 1:
        size = [min(2, extent) for extent in x.shape[2:]]
        x = pool[rank - 1](x, size if rank > 1 else size[0])
    return x


def _aligned(spec: TensorSpec) -> View | None:
    """Mirrored, shifted and shrunk windows of a query against the middle window of a key."""
    if spec.layout == "vector" or not spec.space:
        return None
    is_grid = spec.layout == "grid"
    probe = torch.zeros(1, *spec.shape)
    extents = (probe if spec.kind == "token" else _shrink(probe, spec)).shape
    first = len(extents) - min(2, len(spec.space))  # the first axis that is shifted along
    margins = [min(SHIFT[spec.layout], extent // 6) for extent in extents[first:]]
    mirrors = (0, 1) if is_grid else (0,)
    # Where windows start: first in the item, in its middle before elsewhere; then in the smaller
    # one that a crop of it was drawn out from.
    starts = [_from_middle(margin) for margin in margins]
    transforms = [(0, *each) for each in itertools.product(mirrors, *starts)]
    steps = [max(margin, 1) if is_grid else 1 for margin in margins]
    can_zoom = is_grid and spec.kind == "real" and len(margins) == 2 and max(margins) > 0
    if can_zoom:
        smaller = [range(margin + 1) for margin in margins]
        transforms += [(1, *each) for each in itertools.product(mirrors, *smaller)]
    if len(transforms) == 1:
        return None
    coarse = tuple(
        number
        for number, (zoom, _, *start) in enumerate(transforms)
        if (not zoom and all(s % step == 0 for s, step in zip(start, steps, strict=True)))
        or (zoom and start == [margin // 2 for margin in margins])
    )

    def window(x: Tensor, start: Sequence[int]) -> Tensor:
        for axis, (margin, place) in enumerate(zip(margins, start, strict=True)):
            x = x.narrow(first + axis, place, extents[first + axis] - 2 * margin)
        inner = TensorSpec(spec.kind, tuple(x.shape[1:]), spec.vocab_size, layout=spec.layout)
        return flat(x, inner)

    def keys(x: Tensor) -> Tensor:
        return window(x if spec.kind == "token" else _shrink(x, spec), margins)

    def queries(x: Tensor) -> Tensor:
        x = x if spec.kind == "token" else _shrink(x, spec)
        forms = [[x, x.flip(-1)] if is_grid else [x]]
        if can_zoom:
            size = [extent - m for extent, m in zip(extents[first:], margins, strict=True)]
            forms.append([_resized(form, size) for form in forms[0]])
        return torch.stack([window(forms[z][m], start) for z, m, *start in transforms], 1)

    return View("aligned", keys, queries, coarse)


def _from_middle(margin: int) -> list[int]:
    """`margin`, then the other places from 0 to twice as many, the nearest first."""
    return sorted(range(2 * margin + 1), key=lambda place: abs(place - margin))


def _resized(x: Tensor, size: list[int]) -> Tensor:
    """Grids (N, *, H, W) at another height and width."""
    flat_grid = x.flatten(1, -3)
    resized = functional.interpolate(flat_grid, size, mode="bilinear", align_corners=False)
    return resized.view(*x.shape[:-2], *size)


def _featured(spec: TensorSpec, features: Represent) -> View:
    def both(x: Tensor) -> Tensor:
        return torch.stack([features(x), features(x.flip(-1))], 1)

    if spec.layout == "grid" and spec.kind == "real" and spec.space:
        return View("features", features, both, (0, 1))
    return View("features", features, lambda x: features(x)[:, None])
