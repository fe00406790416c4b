r"""Items as vectors in which copies lie close: the views that the copying test takes of them.

    items        the values as they are (tokens: Hamming distance; parts: numbers by their deviation
                 among real items, and 1 for each category that differs)
    aligned      the nearest of the item mirrored, shifted, and as what a slightly smaller crop was
                 drawn out from, on the part that all of these share
    passages     sequences of tokens: which runs of three tokens occur, wherever they stand
    features     what a feature extractor sees, of the item and its mirror image

Padding is no part of an item: it is neither alike nor unlike. What a view does depends on the spec
alone: grids are mirrored along their last axis, shifted and
scaled along their last two, sequences are shifted, vectors are neither.

A query is compared in several transforms, a key in one: d(q, key) = min over v of |v(q) - key|.

Legend: N items, V transforms, D values, C channels, L length, M codes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from morphogen.core.encoded import Encoded
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.evaluation.features import parts
from morphogen.evaluation.vectors import counted, hashed, runs, shrunk

MOST_VALUES = 1024  # larger items are averaged, or sketched, down to this
SHIFT = {"grid": 2, "sequence": 8, "vector": 0}  # positions, at most
PASSAGE = 3  # tokens in a run

Represent = Callable[[Any], Tensor]  # of encoded items (N, *)


@dataclass(frozen=True)
class View:
    """`keys` (N, *shape) -> (N, D); `queries` (N, *shape) -> (N, V, D), the item as it is first.

    `coarse` are the transforms that a first search makes do with.
    """

    name: str
    keys: Represent
    queries: Represent
    coarse: tuple[int, ...] = (0,)


def views(spec: Spec, features: Represent | None = None, some: Encoded | None = None) -> list[View]:
    """The views that fit a spec; numbers among parts are measured by how they vary in `some`."""
    if isinstance(spec, ProductSpec):
        rows = _by_parts(spec, some)
        found = [View("items", rows, lambda x: rows(x)[:, None])]
    else:
        found = [View("items", lambda x: flat(x, spec), lambda x: flat(x, spec)[:, None])]
        aligned = _aligned(spec)
        if aligned is not None:
            found.append(aligned)
        if spec.kind == "token" and not spec.sizes and math.prod(spec.shape) > PASSAGE:
            runs_of = partial(_passages_of, spec)
            found.append(View("passages", runs_of, lambda x: runs_of(x)[:, None]))
    if features is not None:
        found.append(_featured(spec, features))
    return found


def _by_parts(spec: ProductSpec, some: Encoded | None) -> Represent:
    """Rows of mixed columns as vectors: |a - b|^2 is the sum over numbers of squared differences in
    deviations, and the number of categories that differ."""
    scales = {}
    if isinstance(some, dict):
        masks = spec.mask(some)
        for name, part in spec:
            if part.kind == "real":
                values, mask = some[name].flatten(1), masks[name]
                if mask is not None:
                    values = (some[name] * mask).flatten(1)
                deviation = values.std(0) if len(values) > 1 else torch.ones(values.shape[1])
                scales[name] = torch.where(deviation > 0, deviation, torch.ones_like(deviation))

    def represent(x: Any) -> Tensor:
        masks, found = spec.mask(x), []
        for name, part in spec:
            mask = masks[name]
            if part.kind == "token":
                found.append(flat(x[name], part, mask) / math.sqrt(2))
                continue
            values = (x[name] if mask is None else x[name] * mask).flatten(1)
            values = values / scales[name] if name in scales else values
            vector = TensorSpec.vector(values.shape[1])
            found.append(flat(values, vector))
        return torch.cat(found, 1)

    return represent


def _passages_of(spec: TensorSpec, x: Tensor) -> Tensor:
    return passages(x, spec.mask(x))


def in_chunks(represent: Represent, x: Tensor) -> Tensor:
    """`represent` over many items, a chunk at a time."""
    return torch.cat([represent(x[index]) for index in parts(len(x))])


def flat(x: Tensor, spec: TensorSpec, mask: Tensor | None = None) -> Tensor:
    """Items (N, *shape) as vectors (N, D): |a - b|^2 is twice the number of unequal tokens, or the
    squared distance of the values, of averages over blocks where there are many."""
    if spec.kind == "token":
        mask = spec.mask(x) if mask is None else mask
        mask = mask if mask is None else mask.expand_as(x).flatten(1)
        x = x.flatten(1) if x.dim() > 1 else x[:, None]
        codes = torch.arange(x.shape[1], device=x.device) * (spec.vocab_size or 1) + x
        return counted(codes, x.shape[1] * (spec.vocab_size or 1), MOST_VALUES, mask)
    values = shrunk(x, spec, MOST_VALUES).flatten(1)
    if values.shape[1] <= MOST_VALUES:
        return values
    bucket, sign = hashed(torch.arange(values.shape[1], device=x.device), MOST_VALUES)
    out = values.new_zeros(len(values), MOST_VALUES)
    return out.index_add_(1, bucket, values * sign)


def passages(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Tokens (N, L) -> how often each run of `PASSAGE` tokens occurs, sketched (N, D); those that
    end in padding do not count."""
    x = x.flatten(1)
    real = torch.ones_like(x, dtype=torch.bool) if mask is None else mask.flatten(1)
    codes, whole = runs(x, real, PASSAGE)
    return counted(codes, 2**31, MOST_VALUES, whole)


def _aligned(spec: TensorSpec) -> View | None:
    """Mirrored, shifted and shrunk windows of a query against the middle window of a key."""
    if spec.layout == "vector" or not spec.space or spec.is_ragged or spec.sizes:
        return None  # nothing to shift; what ends anywhere is met wherever it stands, by passages
    is_grid = spec.layout == "grid"
    probe = torch.zeros(1, *spec.shape)
    extents = (probe if spec.kind == "token" else shrunk(probe, spec, MOST_VALUES)).shape
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
        return window(x if spec.kind == "token" else shrunk(x, spec, MOST_VALUES), margins)

    def queries(x: Tensor) -> Tensor:
        x = x if spec.kind == "token" else shrunk(x, spec, MOST_VALUES)
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


def _featured(spec: Spec, features: Represent) -> View:
    def both(x: Tensor) -> Tensor:
        return torch.stack([features(x), features(x.flip(-1))], 1)

    if spec.layout == "grid" and spec.kind == "real" and spec.space:
        return View("features", features, both, (0, 1))
    return View("features", features, lambda x: features(x)[:, None])
