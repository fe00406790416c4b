"""A batch: encoded items with their masks and named conditions."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Batch:
    """Encoded items.

    `x` (B, *spec.shape); `mask` (B, ...) True where the data is real and not padding; `cond` by
    name, each (B, *condition spec's shape).
    """

    x: Tensor
    mask: Tensor | None = None
    cond: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        mask = None if self.mask is None else self.mask.to(device)
        return Batch(self.x.to(device), mask, {k: v.to(device) for k, v in self.cond.items()})
