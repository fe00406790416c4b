"""Items drawn left to right, all of a batch together, some of their values held.

Legend: B batch, L positions, C what a network tells of each, V vocabulary.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.conditioning import one_of
from morphogen.core.likelihood import NEVER
from morphogen.core.random import categorical
from morphogen.core.writing import Legality, Limits
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
    legal: Legality | None = None,
) -> Tensor:
    """Tokens (B, L), those not `held` replaced by draws."""
    each = draws(model, tokens, held, cond=cond, generator=generator, limits=limits, legal=legal)
    settled = deque(each, maxlen=1)
    return settled.pop()[1] if settled else tokens


def draws(
    model: Any,
    tokens: Tensor,
    held: Tensor,
    *,
    cond: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    limits: Limits,
    legal: Legality | None = None,  # of items whose beginning alone is held
) -> Iterator[tuple[int, Tensor]]:
    """Each position from the first that is not held everywhere, and tokens (B, L) after it is
    settled, the same tensor every time."""
    end = model.spec.end
    tokens = tokens.clone() if end is None else torch.where(held, tokens, end)
    first = int(held.all(0).cumprod(0).sum())
    ended = torch.zeros_like(tokens[:, 0], dtype=torch.bool)
    if end is not None:
        ended = (tokens[:, :first] == end).any(1)
    ruled = _begun_legally(legal, tokens[:, :first].tolist(), model.num_tokens)
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

        def again(told: Tensor, rows: list[int] | None = None, came: Any = came) -> Tensor:
            before = came if rows is None or not came else [came[row] for row in rows]
            bounded = limited(told, limits, before, first).to(generator.device)
            return categorical(bounded, generator).to(tokens.device)

        drawn = again(logits)
        if legal is not None:
            take = functools.partial(legal.take, left=model.num_tokens - i - 2)  # and the end
            going = ruled.intersection((~ended).nonzero()[:, 0].tolist())
            stay = going.intersection(held[:, i].nonzero()[:, 0].tolist())
            ruled -= {row for row in stay if not take(row, int(tokens[row, i]))}
            drawn = legally(take, logits, drawn, sorted(going - stay), again)
        if end is not None:
            drawn = drawn.masked_fill(ended, end)
        tokens[:, i] = torch.where(held[:, i], tokens[:, i], drawn)
        if end is not None:
            ended |= tokens[:, i] == end
        yield i, tokens


def _begun_legally(legal: Legality | None, came: list[list[int]], num_tokens: int) -> set[int]:
    """The rows that have begun within the rules: others are drawn without them."""
    if legal is None:
        return set()
    return {
        row
        for row, own in enumerate(came)
        if all(legal.take(row, token, num_tokens - i - 2) for i, token in enumerate(own))
    }


def legally(
    take: Callable[[int, int], bool],
    logits: Tensor,
    drawn: Tensor,
    rows: list[int],
    again: Callable[[Tensor, list[int]], Tensor],
) -> Tensor:
    """Tokens (B,) `drawn` by logits (B, V), in `rows` only those that may come. What may not is
    drawn again without it: a draw from what is legal, of which few tokens were looked at."""
    logits, drawn = logits.clone(), drawn.clone()
    while rows:
        tokens = drawn.tolist()
        rows = [row for row in rows if not take(row, tokens[row])]
        logits[rows, drawn[rows]] = NEVER
        stuck = (logits[rows] <= NEVER).all(1).tolist()  # no token may come: as it was drawn
        rows = [row for row, none in zip(rows, stuck, strict=True) if not none]
        if rows:
            drawn[rows] = again(logits[rows], rows)
    return drawn


def revealed(
    tokens: Tensor,
    hidden: Tensor,
    *,
    logits_of: Callable[[Tensor], Tensor],
    again: Callable[[Tensor], Tensor],
    legal: Legality,
    end: int,
    mask: int,
) -> Tensor:
    """Tokens (B, L), those `hidden` told from left to right within the rules, by logits (B, V, L)
    that see both sides. An item goes on where it may not end yet, and ends where nothing may
    come."""
    ruled, hidden = set(range(len(tokens))), hidden.clone()
    num = (hidden | (tokens != end)).sum(1).tolist()
    for i in range(tokens.shape[1]):
        for row in [row for row in ruled if num[row] == i]:
            if legal.take(row, end, 0):
                ruled.remove(row)
            else:
                tokens[row, i], hidden[row, i], num[row] = mask, True, i + 1
        here = set(hidden[:, i].nonzero()[:, 0].tolist())
        left = tokens.shape[1] - i - 2  # and the end
        ruled -= {r for r in ruled - here if not legal.take(r, int(tokens[r, i]), left)}
        if not here:
            continue
        took: set[int] = set()

        def take(row: int, token: int, left: int = left, took: set[int] = took) -> bool:
            if may := legal.take(row, token, left):
                took.add(row)
            return may

        logits = logits_of(tokens)[:, :, i]
        logits[:, end] = NEVER
        rows = sorted(ruled & here)
        drawn = legally(take, logits, again(logits), rows, lambda some, _: again(some))
        tokens[:, i] = torch.where(hidden[:, i], drawn, tokens[:, i])
        for row in set(rows) - took:  # nothing may come
            ruled.remove(row)
            if bool(hidden[row, i : num[row]].all()) and legal.take(row, end, 0):
                tokens[row, i:], hidden[row, i:] = end, False
    return tokens


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
