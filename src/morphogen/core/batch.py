"""A batch: encoded items with their masks, weights and named conditions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from morphogen.core.encoded import Encoded, moved, num_items, rows


@dataclass
class Batch:
    """Encoded items.

    `x` (B, *spec.shape), or a dict of the parts of a `ProductSpec`; `mask` (B, ...) True where the
    data is real, for what `spec.mask(x)` cannot tell; `cond` by name, each (B, *condition's shape);
    `weight` (B, ...), broadcastable to x: how much each value counts in the loss. A value that is
    masked is no data; one of weight 0 is, but is not to be learned (the question, in a pair of
    question and answer). `other` is what the items are compared with, row by row (the answer that
    was found worse).
    """

    x: Any  # Encoded; Any, so that families of tensors need not ask which it is
    mask: Any = None
    cond: dict[str, Tensor] = field(default_factory=dict)
    weight: Any = None
    other: Batch | None = None

    def __len__(self) -> int:
        return num_items(self.x)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""

        def there(x: Encoded | None) -> Encoded | None:
            return None if x is None else moved(x, device)

        cond = {name: value.to(device) for name, value in self.cond.items()}
        other = None if self.other is None else self.other.to(device)
        return Batch(there(self.x), there(self.mask), cond, there(self.weight), other)

    def rows(self, index: Tensor | slice) -> Batch:
        """The items at `index`."""

        def some(x: Encoded | None) -> Encoded | None:
            return None if x is None else rows(x, index)

        cond = {name: value[index] for name, value in self.cond.items()}
        other = None if self.other is None else self.other.rows(index)
        return Batch(some(self.x), some(self.mask), cond, some(self.weight), other)

    def mean_over_values(self, error: Tensor) -> Tensor:
        """The mean of a quantity (B, *) over the values of each item that are real, each counted by
        its weight: (B,). For items of one tensor."""
        if self.mask is None and self.weight is None:
            return error.flatten(1).mean(1)
        weight = torch.ones_like(error) if self.weight is None else self.weight.expand_as(error)
        real = torch.ones_like(error) if self.mask is None else self.mask.expand_as(error).to(error)
        total = (error * weight * real).flatten(1).sum(1)
        return total / real.flatten(1).sum(1).clamp(min=1)


def learned_length(weight: Tensor) -> Tensor:
    """How many values of each item there are up to the last that counts, by their weights (B, L):
    (B,). What stands behind it need not be computed."""
    place = torch.arange(1, weight.shape[1] + 1, device=weight.device)
    return ((weight > 0) * place).amax(1)
