"""How far items are from items, in any spec: what tasks report, and draw as maps.

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

from morphogen.core.encoded import Encoded
from morphogen.core.spec import ProductSpec, Spec


def change(a: Any, b: Any, spec: Spec) -> Encoded:
    """One number for each value: (N, *), (N, *) -> (N, *), or by parts."""
    if isinstance(spec, ProductSpec):
        return {name: _differs(a[name], b[name]) for name, _ in spec}
    return _differs(a, b)


def change_of_items(a: Any, b: Any, spec: Spec) -> Tensor:
    """The mean over what is real in either item; of parts, over the parts: (N,)."""
    if not isinstance(spec, ProductSpec):
        return _mean(_differs(a, b), spec.mask(a), spec.mask(b))
    own, other = spec.mask(a), spec.mask(b)
    each = [_mean(_differs(a[n], b[n]), own[n], other[n]) for n, _ in spec]
    return torch.stack(each).mean(0)


def named(what: str, values: Tensor, spec: Spec) -> dict[str, list[float]]:
    """The numbers of items under the name that says what they are: `squared_error`, or the share of
    tokens that differ, `error_share`."""
    name = f"squared_{what}" if spec.kind == "real" else f"{what}_share"
    return {name: [float(value) for value in values.detach().cpu()]}


def _differs(a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point() or b.is_floating_point():
        return (a.to(b) - b).square() if b.is_floating_point() else (a - b.to(a)).square()
    return (a.to(b) != b).float()


def _mean(each: Tensor, own: Tensor | None, other: Tensor | None) -> Tensor:
    """Of (N, *) over all but the first axis, where either mask is True."""
    if own is None or other is None:
        return each.float().reshape(len(each), -1).mean(1)
    real = (own | other).expand_as(each).to(each)
    total = (each * real).reshape(len(each), -1).sum(1)
    return total / real.reshape(len(each), -1).sum(1).clamp(min=1)
