"""Go on from a prefix: the model draws what follows, up to the end of the item.

    x_i ~ p(x_i | prefix, x_<i)

The prefix is kept as it is. Items shorter than a position or two have nothing to go on from; one as
long as the model's items leaves nothing to draw, and comes back as it was.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from morphogen.core.capability import CanFill, CanStream, refuses
from morphogen.core.encoded import num_items
from morphogen.core.result import Result
from morphogen.tasks._routes import Conditions, choose, chunks, copied, is_sequence, only, repeat


@refuses(only("sequences of tokens, such as text, which go on where they stop", is_sequence))
def continue_(
    model: CanFill | CanStream,
    prefix: Tensor,
    known: Tensor,
    *,
    cond: Conditions | None = None,  # conditions by name, each (N, ...)
    generator: torch.Generator,
    num: int = 1,  # continuations of each prefix
    temperature: float | None = None,  # below 1 more typical, above 1 more varied
) -> Result:
    """Go on from each prefix: items that begin with it.

    `prefix` (N, L) is padded to the length of items, `known` (N, L) is True where it stands.
    """
    x, held = copied(prefix, num), copied(known, num)
    options = {} if temperature is None else {"temperature": temperature}

    def by_filling(m: CanFill) -> Tensor:
        fill: Any = m.fill
        shares = chunks(num_items(x), repeat(cond, num))
        drawn = [fill(x[i], held[i], cond=c, generator=generator, **options) for i, c in shares]
        return torch.cat(drawn)

    def by_streaming(m: CanStream) -> Tensor:
        whole = x.clone()
        for row in range(len(x)):  # prefixes differ in length
            own = repeat(cond, num)
            share = None if own is None else {name: v[row : row + 1] for name, v in own.items()}
            length = int(held[row].sum())
            begun = whole[row : row + 1, :length]
            drawn = m.stream(begun, cond=share, generator=generator, **options)
            for place, token in enumerate(drawn, length):
                whole[row, place] = token
        return whole

    name, run = choose(model, {"fill": by_filling, "stream": by_streaming})
    values = {"prefix": [int(length) for length in held.sum(1)]}
    return Result(run(), values, name, num)
