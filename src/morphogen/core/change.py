"""How far items are from items, in any spec: what tasks report and draw as maps, and evaluations
count as errors.

    real values   the squared difference
    tokens        1 where they differ
    parts         each by its kind

What is padding in both is no difference, and does not count.

Legend: N items, * the spec's shape.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from morphogen.core.encoded import Encoded, tensor
from morphogen.core.spec import ProductSpec, Spec


def change(a: Any, b: Any, spec: Spec) -> Encoded:
    """One number for each value: (N, *), (N, *) -> (N, *), or by parts."""
    if isinstance(spec, ProductSpec):
        return {name: _differs(a[name], b[name]) for name, _ in spec}
    return _differs(a, b)


def change_of_items(a: Any, b: Any, spec: Spec) -> Tensor:
    """The mean over the values that are real in either item, of all parts together: (N,)."""
    each = change(a, b, spec)
    if not isinstance(spec, ProductSpec):
        total, num = _summed(tensor(each), spec.mask(a), spec.mask(b))
        return total / num.clamp(min=1)
    own, other = spec.mask(a), spec.mask(b)
    sums = [_summed(_part(each, name), own[name], other[name]) for name, _ in spec]
    total, num = (torch.stack(column).sum(0) for column in zip(*sums, strict=True))
    return total / num.clamp(min=1)


def named(what: str, values: Tensor, spec: Spec) -> dict[str, list[float]]:
    """The numbers of items under the name that says what they are: `squared_error`, or the share of
    tokens that differ, `error_share`."""
    name = f"squared_{what}" if spec.kind == "real" else f"{what}_share"
    return {name: [float(value) for value in values.detach().cpu()]}


def _differs(a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point() or b.is_floating_point():
        return (a.to(b) - b).square() if b.is_floating_point() else (a - b.to(a)).square()
    return (a.to(b) != b).float()


def _part(x: Encoded, name: str) -> Tensor:
    if not isinstance(x, dict):
        raise TypeError(f"these items have no part {name!r}")
    return x[name]


def _summed(each: Tensor, own: Tensor | None, other: Tensor | None) -> tuple[Tensor, Tensor]:
    """The sum (N,) of (N, *) where either mask is True, and of how many values it is."""
    flat = each.float().reshape(len(each), -1)
    if own is None or other is None:
        return flat.sum(1), torch.full_like(flat[:, 0], flat.shape[1])
    real = (own | other).expand_as(each).reshape(len(each), -1).to(flat)
    return (flat * real).sum(1), real.sum(1)
