"""Encoded items: a tensor, or a dict of tensors where an item has parts. One word for both.

All forms have the batch axis first. `TensorSpec` goes with a tensor, `ProductSpec` with a dict.

Legend: B batch, * the shape of an item or of one of its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Encoded = Tensor | dict[str, Tensor]


def each(function: Callable[[Tensor], Tensor], x: Encoded) -> Encoded:
    """The function on the tensor, or on every part."""
    return (
        {name: function(part) for name, part in x.items()} if isinstance(x, dict) else function(x)
    )


def num_items(x: Encoded) -> int:
    """B."""
    return (next(iter(x.values())) if isinstance(x, dict) else x).shape[0]


def device(x: Encoded) -> torch.device:
    """Where the items are."""
    return (next(iter(x.values())) if isinstance(x, dict) else x).device


def rows(x: Encoded, index: Tensor | slice) -> Encoded:
    """The items at `index`."""
    return each(lambda part: part[index], x)


def moved(x: Encoded, device: torch.device | str) -> Encoded:
    """The same items on `device`."""
    return each(lambda part: part.to(device), x)


def together(function: Callable[[list[Tensor]], Tensor], several: Sequence[Encoded]) -> Encoded:
    """Several batches, or items, of one form into one, part by part."""
    first = several[0]
    if not isinstance(first, dict):
        return function([x for x in several if isinstance(x, Tensor)])
    return {name: function([x[name] for x in several if isinstance(x, dict)]) for name in first}


def joined(batches: Sequence[Encoded]) -> Encoded:
    """Batches (B_i, *) one after the other: (sum of B_i, *)."""
    return together(torch.cat, batches)


def stacked(items: Sequence[Encoded]) -> Encoded:
    """Items (*), without a batch axis, as a batch (B, *)."""
    return together(torch.stack, items)


def unstacked(x: Encoded) -> list[Encoded]:
    """Inverse of `stacked`."""
    return [each(lambda part, i=i: part[i], x) for i in range(num_items(x))]  # type: ignore[misc]


def equal(a: Encoded, b: Encoded) -> bool:
    """Whether both hold the same numbers in the same form."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)


def tensor(x: Encoded) -> Tensor:
    """The items of a spec without parts, for code that has been promised such."""
    if isinstance(x, dict):
        raise TypeError(f"these items have parts: {', '.join(x)}")
    return x
