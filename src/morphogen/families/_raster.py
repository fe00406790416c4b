"""Items as one line of values: which lie near each other, which tokens a position can hold.

Legend: L values in an item, F values near one of them, V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.spec import TensorSpec

RADIUS = 2  # positions along every axis that count as near


def own_tokens(sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Columns side by side in one vocabulary: where each one's tokens start (L,), and which tokens
    (L, V) are not its own."""
    size = torch.tensor(sizes)
    first = size.cumsum(0) - size
    places = torch.arange(sum(sizes))
    return first, (places < first[:, None]) | (places >= (first + size)[:, None])


def near_and_before(spec: TensorSpec) -> Tensor:
    """Places in raster order (L, F) of the F values near each of L values and before it; L itself
    for those that would lie outside. The channels of a position come after each other."""
    values = torch.arange(spec.num_values).view(*spec.space, spec.channels)
    sides = (0, 0, *(RADIUS for _ in range(2 * len(spec.space))))
    padded = F.pad(values, sides, value=spec.num_values)
    found = []
    for offset in itertools.product(range(-RADIUS, RADIUS + 1), repeat=len(spec.space)):
        if offset <= (0,) * len(spec.space):  # a position before, or the same one
            window = zip(offset, spec.space, strict=True)
            shifted = padded[tuple(slice(RADIUS + o, RADIUS + o + size) for o, size in window)]
            found.append(shifted[..., None, :].expand(*values.shape, spec.channels))
    places = torch.cat(found, dim=-1).flatten(0, -2)  # (L, F)
    return places.where(places < torch.arange(spec.num_values)[:, None], spec.num_values)
