r"""Memorisation measured by planted canaries (Carlini et al. 2019, "The Secret Sharer").

Canaries are drawn at random and planted in the training split 1, 4, 16, 64 times (`data.canaries`).
After training, each is ranked by the model among references that were drawn in the same way and
never seen:

    exposure = log2(number of references) - log2(rank)          rank 1: likelier than all of them

A model that remembers nothing ranks a canary anywhere: the rank is uniform, and the mean exposure
is 1 / ln 2 = 1.44 bits. The largest that can be measured is log2(number of references).

Scores are the task `anomaly`'s, averaged over repeats where they are drawn: log p(x) where the
model has it, else the denoising error, the reconstruction error, or the energy.

Legend: N canaries, R references, D values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.errors import MeasurementError
from morphogen.core.measurement import Measurement
from morphogen.core.random import generator, mix_seed
from morphogen.data.canaries import Canaries
from morphogen.data.store import Store
from morphogen.evaluation.features import parts

FORGETFUL = 1 / math.log(2)  # bits: the mean exposure of canaries that nothing is remembered of
REMEMBERED = 0.01  # a probability below which a mean exposure is no chance
DRAWS = 4  # of a score that is an estimate
RESAMPLED = 2000  # bootstrap repeats


def exposure(
    model: Any,
    canaries: Canaries,
    *,
    route: str | None = None,
    seed: int = 0,
    protocol: Mapping[str, Any] | None = None,
) -> dict[int, Measurement]:
    """Mean exposure in bits by number of repeats, with a bootstrap interval over the canaries.

    `note` gives the probability that a model which remembers nothing has as much, `caution` says
    when that is small. Raises
    `MeasurementError` for scores that are not finite, `RefusedPair` for a model that has none.
    """
    planted = surprise(model, canaries.planted, route, seed)
    references = surprise(model, canaries.references, route, seed)
    bits = exposures(planted, references)
    found = {}
    for repeats in torch.unique(canaries.repeats).tolist():
        own = bits[canaries.repeats == repeats]
        low, high = _bootstrap(own, generator(mix_seed(seed, repeats)))
        p = p_value(own, len(references))
        often = "once" if repeats == 1 else f"{repeats} times"
        found[repeats] = Measurement(
            f"exposure_{repeats}", float(own.mean()), len(own), higher_is_better=False,
            low=low, high=high, interval=f"95 %, bootstrap over canaries, {RESAMPLED} repeats",
            note=f"p = {p:.2g} for a model that remembers nothing, which has {FORGETFUL:.2f} bits "
            f"on the average; {math.log2(len(references)):.2f} is the most that can show",
            caution=f"an item that is {often} in the data is remembered" if p < REMEMBERED else "",
            protocol={**canaries.to_json(), "seed": seed, **(protocol or {})},
        )  # fmt: skip
    return found


def exposures(planted: Tensor, references: Tensor) -> Tensor:
    """log2 R - log2 rank (N,) of surprises (N,) among those of references (R,); ties count half."""
    below = (references[None] < planted[:, None]).sum(1)
    equal = (references[None] == planted[:, None]).sum(1)
    return math.log2(len(references)) - torch.log2(1 + below + 0.5 * equal)


def p_value(bits: Tensor, num_references: int) -> float:
    """P(sum of exposures >= this sum) when ranks are uniform.

    With R + 1 ranks equally likely, -ln((rank - U) / (R + 1)) is exactly exponential for a uniform
    U; taking rank in place of rank - U can only lower the sum, so the gamma tail is an upper bound.
    """
    from scipy.stats import gamma  # type: ignore[import-untyped]

    shift = math.log((num_references + 1) / num_references)
    nats = float((bits.double() * math.log(2) + shift).sum())
    return float(gamma.sf(nats, len(bits)))


@torch.no_grad()
def surprise(model: Any, split: Store, route: str | None, seed: int) -> Tensor:
    """The score (N,) of the task `anomaly`, higher for stranger items; the noises are the same for
    every split."""
    anomaly = discover.find("task", "anomaly")
    exact = getattr(model, "log_prob_is", "exact") == "exact"
    total = torch.zeros(len(split), dtype=torch.float64)
    for number in range(1 if exact else DRAWS):
        for part in parts(len(split)):
            batch = split.batch(part).to(model.device)
            cond = {name: v for name, v in batch.cond.items() if name in model.conditions}
            draw = generator(mix_seed(seed, number))
            result = anomaly(model, batch.x, cond=cond or None, generator=draw, route=route)
            total[part] += torch.tensor(result.values["score"], dtype=torch.float64)
    if not bool(torch.isfinite(total).all()):
        raise MeasurementError("the model's scores of the canaries are not finite")
    return total


def _bootstrap(values: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """Percentiles of the mean of values (N,)."""
    index = torch.randint(len(values), (RESAMPLED, len(values)), generator=generator)
    ends = (
        values.double()[index].mean(1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    )
    return float(ends[0]), float(ends[1])
