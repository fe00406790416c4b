"""Items drawn left to right, all of a batch together, some of their values held.

Legend: B batch, L positions, C what a network tells of each, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.conditioning import one_of
from morphogen.core.likelihood import NEVER
from morphogen.core.random import categorical
from morphogen.core.writing import Limits
from morphogen.families._limits import limited
from morphogen.families._stepped_rows import SteppedRows


def draw(
    model: Any,
    tokens: Tensor,
    held: Tensor,
    *,
    cond: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    limits: Limits,
) -> Tensor:
    """Tokens (B, L), those not `held` replaced by draws."""
    settled = deque(
        draws(model, tokens, held, cond=cond, generator=generator, limits=limits), maxlen=1
    )
    return settled.pop()[1] if settled else tokens


def draws(
    model: Any,
    tokens: Tensor,
    held: Tensor,
    *,
    cond: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    limits: Limits,
) -> Iterator[tuple[int, Tensor]]:
    """Each position from the first that is not held everywhere, and tokens (B, L) after it is
    settled, the same tensor every time."""
    end = model.spec.end
    tokens = tokens.clone() if end is None else torch.where(held, tokens, end)
    first = int(held.all(0).cumprod(0).sum())
    ended = torch.zeros_like(tokens[:, 0], dtype=torch.bool)
    if end is not None:
        ended = (tokens[:, :first] == end).any(1)
    params_at = _reader(model, tokens, first, model.embedded(cond, len(tokens)))
    # Whether more is known of an item at this position or later: then it does not end here.
    goes_on = (held & (tokens != (-1 if end is None else end))).flip(1).cumsum(1).flip(1) > 0
    for i in range(first, model.num_tokens):
        if end is not None and bool(ended.all()):
            return
        logits = model.logits(params_at(i), i)
        if end is not None:
            logits[:, end] = logits[:, end].masked_fill(goes_on[:, i], NEVER)
        came = tokens[:, :i].tolist() if limits.looks_back else ()
        logits = limited(logits, limits, came, first)
        drawn = categorical(logits.to(generator.device), generator).to(tokens.device)
        if end is not None:
            drawn = drawn.masked_fill(ended, end)
        tokens[:, i] = torch.where(held[:, i], tokens[:, i], drawn)
        if end is not None:
            ended |= tokens[:, i] == end
        yield i, tokens


def _reader(
    model: Any, tokens: Tensor, first: int, context: tuple[Any, Any]
) -> Callable[[int], Tensor]:
    """What gives the parameters (B, P) at `first` and each position after it, in turn."""
    network: Any = model.network
    step, state = getattr(network, "step", None), None
    if isinstance(rows := model.rows(len(tokens)), SteppedRows):
        seen = {"context": context[1]} if network.context_dim else {}
        done = 0

        def at(i: int) -> Tensor:
            nonlocal done, state
            if step is None:
                return network.run(model.inputs(tokens), *context)[:, :, i]
            while done <= i:
                params, state = step(model.input_at(tokens, done), context[0], state, **seen)
                done += 1
            return params

        return at

    def next_at(i: int) -> Tensor:
        each = range(len(tokens))
        if i > first:
            return rows.advance(tokens[:, i - 1].tolist(), each)
        begun = F.pad(tokens[:, :i], (1, 0), value=model.start)
        return torch.stack([rows.begin(k, begun[k], *one_of(context, k)) for k in each])

    return next_at
