r"""Score how strange items are to the model: higher is stranger.

    columns       the mean over columns of how far out a value lies among draws of the model, and
                  of how much fewer lie near it than is usual (`_columns.py`), in bits; of codecs
                  whose items have columns
    denoise       1/2 integral ||eps - eps_hat||^2 dlambda, bits per dimension up to a constant: the
                  noise that the model fails to tell from the item, with the same noises for all
                  (Graham et al. 2023)
    log_prob      -log p(x) / (D ln 2), bits per dimension: the model's surprise. Smooth items can
                  be more probable than typical ones (Nalisnick et al. 2019). Of codecs that know
                  how much room an encoded item stands for, the density of raw items: a value far
                  out has more room to itself than one among many
    reconstruct   mean squared error of decode(encode(x)), or the share of tokens that come out
                  otherwise: what does not pass the bottleneck
    energy        E(x) / D, -log p(x) up to a constant

Of items with columns, anomalies that come several at a time, near each other, are learned with the
rest: their joint density is not low, while single columns lie in their tails. So `columns` comes
first; `strangest` then names the column that says most. What is odd in no column by itself, but in
how they go together, `log_prob` and `denoise` alone see: ask for them by `route`. A denoiser has a
log_prob too, at several times the cost and without a map.

For `denoise` and `reconstruct` the items returned are maps of where: the same quantity at every
position, from -1 (none) to 1 (the largest of the batch). The others do not come apart so, and the
items are returned as they are.

Of an item with gaps, the model draws what is missing. Where the score comes apart, what is known
alone counts; else the item is scored with what was drawn, which no model finds strange. An item of
which nothing is known has no score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from morphogen.core.capability import (
    CanDenoise,
    CanReconstruct,
    CanSample,
    HasEnergy,
    HasLogProb,
)
from morphogen.core.change import change, change_of_items
from morphogen.core.encoded import Encoded, each, rows, tensor, together
from morphogen.core.following import HasColumns, HasRoom
from morphogen.core.likelihood import bits_per_dim
from morphogen.core.result import Result
from morphogen.tasks._columns import by_columns, drawn_values
from morphogen.tasks._posterior import noise_error
from morphogen.tasks._regions import check_known
from morphogen.tasks._routes import Conditions, choose, in_chunks
from morphogen.tasks.fill import fill, hidden_share, kept

MOST_TOLD = 10  # items of which each score is told
Way = Literal["columns", "denoise", "log_prob", "reconstruct", "energy"]


def anomaly(
    model: HasLogProb | CanDenoise | CanReconstruct | HasEnergy,
    x: Any,
    codec: Any = None,
    *,
    cond: Conditions | None = None,  # conditions by name, each (N, ...)
    generator: torch.Generator,
    known: Encoded | None = None,  # True where x is there; none: all of it
    names: Sequence[str] | None = None,  # of the items, where the strangest are told
    num_draws: int = 16,  # denoising route: noises that the error is averaged over
    num_drawn: int = 10_000,  # columns route: items of the model that each column is known by
    route: Way | None = None,  # force a way
) -> Result:
    """Score how strange each item is (higher is stranger), and show where."""
    spec = getattr(model, "spec")  # noqa: B009
    if known is not None:
        known = check_known(known, x)
        x = _completed(model, x, known, cond, generator)

    def by_log_prob(m: HasLogProb) -> tuple[Tensor, Tensor | None]:
        log_prob = in_chunks(lambda p, c: m.log_prob(p, cond=c, generator=generator), x, cond)
        if isinstance(codec, HasRoom):
            log_prob = log_prob - codec.log_room(x).to(log_prob)
        return bits_per_dim(log_prob, spec, x), None

    def by_denoising(m: CanDenoise) -> tuple[Tensor, Tensor | None]:
        where = noise_error(m, x, cond, num_draws, generator) / math.log(2)
        if known is None:
            return where.flatten(1).mean(1), where
        where = where * tensor(known)
        return where.flatten(1).sum(1) / tensor(known).flatten(1).sum(1).clamp(min=1), where

    def by_autoencoder(m: CanReconstruct) -> tuple[Tensor, Tensor | None]:
        again = in_chunks(lambda part, _: m.decode(m.encode(part)), x)
        share = torch.ones(())
        if known is not None:
            again = kept(each(torch.logical_not, known), x, again)
            share = 1 - torch.tensor(hidden_share(known)).clamp(max=1 - 1e-6)
        where = None if spec.kind == "parts" else tensor(change(again, x, spec))
        score = change_of_items(again, x, spec)
        return score / share.to(score), where

    def by_energy(m: HasEnergy) -> tuple[Tensor, Tensor | None]:
        energy = in_chunks(lambda part, _: m.energy(part), x)
        return energy / spec.num_values, None

    def by_each_column(m: CanSample) -> tuple[Tensor, Tensor | None]:
        draws = drawn_values(m, codec, cond, num_drawn, generator)
        score, more["strangest"] = by_columns(codec.values(x), draws, known, spec)
        return score, None

    more: dict[str, list[str]] = {}
    routes: dict[str, Callable[..., Any]] = {
        **({"columns": by_each_column} if isinstance(codec, HasColumns) else {}),
        "denoise": by_denoising, "log_prob": by_log_prob,
        "reconstruct": by_autoencoder, "energy": by_energy,
    }  # fmt: skip
    name, run = choose(model, routes, route)
    score, where = run()
    shown = x if where is None else _as_items(where, x)
    told = score.tolist()
    if known is not None:
        told = [None if gone == 1 else s for s, gone in zip(told, hidden_share(known), strict=True)]
    found = Result(shown, {"score": told, **more}, name)
    found.told = _strangest(told, names, more.get("strangest"))
    return found


def _strangest(
    scores: Sequence[float | None], names: Sequence[str] | None, why: Sequence[str] | None
) -> dict[str, Any]:
    """Of many items, the strangest with their scores, and the column that says most, if any."""
    known = sorted(score for score in scores if score is not None)
    if len(known) <= MOST_TOLD:
        return {}
    order = sorted(range(len(scores)), key=lambda i: -math.inf if (s := scores[i]) is None else s)
    first: dict[str, str] = {}
    for place in order[: -MOST_TOLD - 1 : -1]:
        name = names[place] if names and names[place] else f"item {place + 1:,}"
        first[name] = f"{scores[place]:.4g}" + (f", by {why[place]}" if why else "")
    middle = known[len(known) // 2]
    every = f"{known[0]:.4g} to {known[-1]:.4g}, half of {len(known):,} below {middle:.4g}"
    return {"scores": every, "all of them": "--out scores.json, or --json", "strangest": first}


def _completed(
    model: Any, x: Any, known: Encoded, cond: Conditions | None, draw: torch.Generator
) -> Any:
    """Items with their gaps filled by one draw of the model; those without, as they are."""
    gaps = torch.tensor(hidden_share(known)).nonzero()[:, 0]
    if not len(gaps):
        return x
    own = None if cond is None else {name: value[gaps] for name, value in cond.items()}
    drawn = fill(model, rows(x, gaps), cond=own, generator=draw, known=rows(known, gaps), num=1)
    filled = rows(drawn.x, slice(1, None, 2))  # each after its masked input

    def put(parts: list[Tensor]) -> Tensor:
        whole, some = parts
        return whole.index_copy(0, gaps.to(whole.device), some.to(whole))

    return together(put, [x, filled])


def _as_items(where: Tensor, x: Tensor) -> Tensor:
    """A map (N, *) in the range of items: 0 to the batch's largest becomes -1 to 1."""
    if x.is_floating_point():
        where = where.mean(1, keepdim=True).expand_as(where)  # the same in every channel
        return (where / where.max().clamp(min=1e-12)) * 2 - 1
    return x
