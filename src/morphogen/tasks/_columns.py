r"""How strange a value is among others of its column: far out, or where there are few.

    s(x) = -log p(x) + max(0, -log f(x) - h)

    ordered     p = min(1, 2 min(P(X <= x), P(X >= x))), the two-sided tail; f the density
    unordered   p = P(f(X) <= f(x)), what comes no oftener; f the probability

h is the mean of -log f, so that what is as dense as usual adds nothing. The tails are those of ECOD
(Li et al. 2022) and COPOD (Li et al. 2020), of which the sum over columns is Fisher's statistic;
they miss what lies in a gap, which densities of single columns (HBOS, Goldstein & Dengel 2012) see.
A missing value is an outcome of its own. All is counted in draws from the law of the column.

Between two distinct values that were drawn lies a border, halfway. f is what cells between borders
hold over their width, those about x joined until they hold sqrt(M) of M draws.

Legend: N values, M draws, K distinct values among them, D columns.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from morphogen.core.capability import CanSample
from morphogen.core.encoded import joined
from morphogen.core.following import HasColumns, Values
from morphogen.core.random import randint
from morphogen.tasks._routes import Conditions, chunks


def drawn_values(
    model: CanSample, codec: HasColumns, cond: Conditions | None, num: int, draw: torch.Generator
) -> list[Values]:
    """The columns of `num` draws of a model, given the conditions of items picked at random."""
    if cond:
        of = randint(len(next(iter(cond.values()))), (num,), draw)
        cond = {name: value[of.to(value.device)] for name, value in cond.items()}
    parts = [
        model.sample(part.stop - part.start, cond=share, generator=draw)
        for part, share in chunks(num, cond)
    ]
    return codec.values(joined(parts))


def by_columns(
    x: list[Values], draws: list[Values], known: Any, spec: Any
) -> tuple[Tensor, list[str]]:
    """The mean of s over the columns of items that are known, in bits, (N,); and of each item, the
    column that says most."""
    found = [
        strangeness(own.numbers, of.numbers, own.ordered) for own, of in zip(x, draws, strict=True)
    ]
    score = torch.stack(found, 1) / math.log(2)  # (N, D)
    there = torch.stack([_known(each.name, known, spec, len(score)) for each in x], 1)
    score = score * there
    strangest = [x[i].name for i in score.argmax(1).tolist()]
    return score.sum(1) / there.sum(1).clamp(min=1), strangest


def _known(name: str, known: Any, spec: Any, num: int) -> Tensor:
    """Whether a column is known of items, (N,), by a mask of parts or of positions with names."""
    if isinstance(known, dict):
        return known[name].expand(num, *known[name].shape[1:]).flatten(1).all(1).cpu()
    names = getattr(spec, "names", None)
    if known is None or names is None:
        return torch.ones(num, dtype=torch.bool)
    own = [i for i, each in enumerate(names) if each == name]
    whole: Tensor = known[:, own].all(1).cpu()
    return whole


def strangeness(x: Tensor, draws: Tensor, ordered: bool) -> Tensor:
    """s of values (N,) of a column with such draws (M,), in nats: (N,). NaN is a missing value."""
    absent, drawn_absent = x.isnan(), draws.isnan()
    found = _unordered(absent.double(), drawn_absent.double())
    if bool(absent.all()) or bool(drawn_absent.all()):
        return found
    score = _ordered if ordered else _unordered
    return found.index_add(0, (~absent).nonzero()[:, 0], score(x[~absent], draws[~drawn_absent]))


def _ordered(x: Tensor, draws: Tensor) -> Tensor:
    """s of numbers (N,)."""
    draws = draws.sort().values
    num = len(draws)
    no_more = torch.searchsorted(draws, x, right=True)
    no_less = num - torch.searchsorted(draws, x)
    tail = (2 * (1 + torch.minimum(no_more, no_less)) / (num + 1)).clamp(max=1)
    values, counts = torch.unique_consecutive(draws, return_counts=True)  # (K,)
    middles = (values[1:] + values[:-1]) / 2
    log_density = _log_density(values, counts, middles)
    own = log_density[torch.searchsorted(middles, x)]
    return -tail.log() + _excess(own, log_density, counts)


def _log_density(values: Tensor, counts: Tensor, middles: Tensor) -> Tensor:
    """log f at distinct values (K,), in units of their range."""
    num = len(values)
    if num == 1:
        return torch.zeros_like(values)
    # The outermost cells reach as far out as in.
    edges = torch.cat([2 * values[:1] - middles[:1], middles, 2 * values[-1:] - middles[-1:]])
    until = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    enough, place = round(float(until[-1]) ** 0.5), torch.arange(num)

    def cells(reach: Tensor) -> tuple[Tensor, Tensor]:
        return (place - reach).clamp(min=0), (place + reach).clamp(max=num - 1) + 1

    least, most = torch.zeros_like(place), torch.full_like(place, num - 1)
    while bool((least < most).any()):  # the smallest reach that holds enough
        reach = (least + most) // 2
        first, last = cells(reach)
        holds = until[last] - until[first] >= enough
        least, most = torch.where(holds, least, reach + 1), torch.where(holds, reach, most)
    first, last = cells(least)
    width = (edges[last] - edges[first]) / (edges[-1] - edges[0])
    return ((until[last] - until[first]) / until[-1] / width).log()


def _unordered(x: Tensor, draws: Tensor) -> Tensor:
    """s of kinds by number (N,). One that was never drawn is as rare as can be told."""
    kinds, counts = torch.unique(draws, return_counts=True)
    same = x[:, None] == kinds  # (N, K)
    count = (same * counts).sum(1)
    no_oftener = ((counts <= count[:, None]) * counts).sum(1)
    tail = (1 + no_oftener).clamp(max=len(draws)) / len(draws)
    own = (count.double().clamp(min=0.5) / len(draws)).log()
    return -tail.double().log() + _excess(own, (counts / len(draws)).log(), counts)


def _excess(own: Tensor, log_density: Tensor, counts: Tensor) -> Tensor:
    """How much less log f of values (N,) is than is usual, where it is less."""
    usual = (log_density * counts).sum() / counts.sum()
    return (usual - own).clamp(min=0)
