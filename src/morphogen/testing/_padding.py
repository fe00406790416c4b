"""Items with noise where nothing of them is: what no answer may depend on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from morphogen.core.spec import ProductSpec, Spec


def without_ends(spec: Spec) -> Spec:
    """The same values with nothing to say of lengths: any token anywhere."""
    if isinstance(spec, ProductSpec):
        return ProductSpec(spec.parts)
    return replace(spec, end=None)


def littered(spec: Spec, x: Any, noise: Any) -> Any:
    """Items with noise where they have ended; lengths and ends stay as they are."""
    if isinstance(spec, ProductSpec):
        return {n: _where_real(mask, x[n], noise[n]) for n, mask in spec.mask(x).items()}
    return _where_real(spec.mask(x), x, noise)


def _where_real(mask: Tensor | None, x: Tensor, noise: Tensor) -> Tensor:
    return x if mask is None else torch.where(mask, x, noise)
