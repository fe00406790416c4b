r"""At which place a model expected what came next in held-out items that were begun before.

Of each the last is judged, given all before it. Beside the model stand two that only count what is
in the training split: how often each token comes, and how often it comes after the one before,

    popularity  n(b),      chain  n(a, b) + n(b) / sum_b n(b)

so that what never followed a is ranked by popularity. Where no training item holds a token twice,
what an item holds already is ranked last, by all three alike: nobody would propose it.

Legend: N held-out items, V tokens but for the end, L places of an item.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.capability import CanPredictNext, missing
from morphogen.core.encoded import tensor
from morphogen.core.errors import MeasurementError
from morphogen.core.following import BegunBefore
from morphogen.core.metric import Ranks
from morphogen.core.random import generator, mix_seed
from morphogen.core.spec import TensorSpec
from morphogen.data.dataset import Data
from morphogen.data.store import Store

MOST_ITEMS = 20_000  # held-out items
TOGETHER = 256  # of one length, at once
Scores = Callable[[Tensor], Tensor]  # prefixes (B, n), n >= 0 -> a score of each token (B, V)


def why_no_ranks(bundle: Bundle, data: Data) -> str | None:
    """Why there is nothing to rank; None where there is."""
    if not isinstance(data.codec, BegunBefore):
        return "what comes next is asked of items that were begun before, and these were not"
    if missing(bundle.family, CanPredictNext):
        return "the model does not say what comes next"
    spec = data.spec
    fits = isinstance(spec, TensorSpec) and spec.kind == "token" and spec.end is not None
    return None if fits and bundle.family.spec == spec else "the items are no sequences of tokens"


@torch.no_grad()
def ranks_of(bundle: Bundle, data: Data, seed: int) -> Ranks:
    """Places of what came next, by the model and by counting."""
    model: Any = bundle.family
    counts = Counts.of(data.train)
    num = min(MOST_ITEMS, len(data.test))
    some = torch.randperm(len(data.test), generator=generator(mix_seed(seed, 13)))[:num]
    x = tensor(data.test.batch(some).x)
    new = data.test.weight(some) > 0
    if not bool(new.any()):
        raise MeasurementError("nothing of the held-out items is new", found=f"{num} items")
    places = new.long().argmax(1)  # (N,)

    def by_model(prefix: Tensor) -> Tensor:
        told: Tensor = model.predict_next(prefix.to(model.device), None)
        return told[:, : counts.num].cpu()

    ways = {"ranks": by_model, "by_popularity": counts.popularity, "by_chain": counts.chain}
    return Ranks(**{name: ranked(x, places, way, counts) for name, way in ways.items()},
                 num=counts.num)  # fmt: skip


class Counts:
    """How often each token of a split comes, and after which."""

    def __init__(self, num: int) -> None:
        self.num = num  # V
        self.single = torch.zeros(num, dtype=torch.float64)
        self.pairs: dict[int, Tensor] = {}  # a -> the tokens after it, as they came
        self.repeats = False  # whether an item holds a token twice

    @classmethod
    def of(cls, split: Store) -> Counts:
        """Of all items of a split whose last token is the end."""
        end = int(split.spec.end)
        found, first, second = cls(end), [], []
        for batch in split.batches():
            x = tensor(batch.x)
            real = x != end
            found.single += torch.bincount(x[real], minlength=end)[:end]
            both = real[:, 1:] & real[:, :-1]
            first.append(x[:, :-1][both])
            second.append(x[:, 1:][both])
            ordered = x.sort(1).values
            twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != end)
            found.repeats |= bool(twice.any())
        a, b = torch.cat(first), torch.cat(second)
        order = a.argsort(stable=True)
        which, sizes = torch.unique_consecutive(a[order], return_counts=True)
        parts = torch.split(b[order], sizes.tolist())
        found.pairs = dict(zip(which.tolist(), parts, strict=True))
        return found

    def popularity(self, prefix: Tensor) -> Tensor:
        """How often each token comes, whatever is before it: (B, n) -> (B, V)."""
        return self.single.expand(len(prefix), -1)

    def chain(self, prefix: Tensor) -> Tensor:
        """How often each comes after the last one: (B, n) -> (B, V)."""
        found = (self.single / self.single.sum().clamp(min=1)).repeat(len(prefix), 1)
        if prefix.shape[1]:
            for row, last in zip(found, prefix[:, -1].tolist(), strict=True):
                if (after := self.pairs.get(last)) is not None:
                    row += torch.bincount(after, minlength=self.num)
        return found


def ranked(x: Tensor, places: Tensor, scores: Scores, counts: Counts) -> Tensor:
    """The place, from 1 on, of the token of each item (N, L) at `places` (N,), given those before
    it: (N,). Tokens of one score share the mean of their places."""
    found = torch.zeros(len(x), dtype=torch.float64)
    for place in torch.unique(places).tolist():
        for rows in torch.split((places == place).nonzero()[:, 0], TOGETHER):
            prefix, came = x[rows, :place], x[rows, place]
            told = scores(prefix).double().clone()
            if not counts.repeats and place:
                told.scatter_(1, prefix, -torch.inf)
            own = told.gather(1, came[:, None])
            above, level = (told > own).sum(1), (told == own).sum(1)
            found[rows] = 1 + above + (level.double() - 1) / 2
    return found
