"""Items as one line of values: which lie near each other, which tokens a position can hold.

Legend: L values in an item, F values near one of them, V vocabulary.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.spec import Spec, TensorSpec

LONGEST = 4096  # positions: attention over more does not fit small machines
LONGEST_LINE = 1 << 16  # of items that end, which a network without attention can learn
MOST_POSITIONS = 6_400  # per step, but for 8 items at least: more steps are worth more
SHORTEST = 32  # tokens of a piece of a window
RADIUS = 2  # positions along every axis that count as near


def own_tokens(sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Columns side by side in one vocabulary: where each one's tokens start (L,), and which tokens
    (L, V) are not its own."""
    size = torch.tensor(sizes)
    first = size.cumsum(0) - size
    places = torch.arange(sum(sizes))
    return first, (places < first[:, None]) | (places >= (first + size)[:, None])


def never_of(spec: TensorSpec) -> Tensor | None:
    """Which tokens (L, V) the positions of a sequence of runs cannot hold; None for any other."""
    return None if spec.runs is None or spec.allowed is None else ~spec.allowed


def by_name(spec: Spec, nats: Tensor) -> dict[str, Tensor]:
    """Nats of each position (B, L) of a sequence of runs, as bits per token of each name: (B,)."""
    if not isinstance(spec, TensorSpec) or spec.runs is None or spec.names is None:
        return {}
    places: dict[str, list[int]] = {}
    for place, name in enumerate(spec.names):
        places.setdefault(name, []).append(place)
    return {name: nats[:, own].mean(1) / math.log(2) for name, own in places.items()}


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


def num_pieces(spec: TensorSpec, progress: float, short_first: float) -> int:
    """How many pieces each window of a text is trained in: 4, then 2, until the share `short_first`
    of training is over. What stands near is learned first, and short pieces cost less (Li et al.
    2022)."""
    if spec.boundary is None or progress >= short_first:
        return 1
    pieces, length = 4 if progress < short_first / 2 else 2, spec.num_values
    return 1 if length % pieces or length // pieces < SHORTEST else pieces


def too_long(spec: Spec, advice: str) -> RefusedPair | None:
    """What is to be said against items of more values than a line may have."""
    ends = isinstance(spec, TensorSpec) and spec.end is not None
    longest = LONGEST_LINE if ends else LONGEST
    if spec.num_values <= longest:
        return None
    return RefusedPair(
        "the items are too long to be told value by value",
        found=f"{spec.num_values} values",
        expected=f"at most {longest}",
        hint=advice,
    )


def fitting_batch(spec: TensorSpec, usual: int) -> int:
    """Long items in smaller batches: a batch of them has as many predictions to learn from."""
    return min(usual, max(MOST_POSITIONS // spec.num_values, 8))


def special(vocab_size: int, start: int | None) -> int:
    """The token before an item, or that hides others: one of the items', or none of them."""
    if start is not None and not 0 <= start < vocab_size:
        raise RecipeError(
            "this is no token of the items",
            found=start, expected=f"0 to {vocab_size - 1}, or none", where="family",
        )  # fmt: skip
    return vocab_size if start is None else start


def network_over(spec: Spec, usual: str) -> str:
    """The network runs over a sequence whatever the layout of the data; that of texts is the one of
    language models, and that of lines too long for attention has none."""
    if not isinstance(spec, TensorSpec) or (spec.end, spec.boundary) == (None, None):
        return usual
    return "token_transformer" if spec.num_values <= LONGEST else "wavenet"
