r"""Every metric over one set of features, each with its floor and interval.

    value    metric(generated, held out)
    floor    metric(training items, the same held-out items), as many as were generated
    ratio    value / floor, where low is good: 1 is as close as real data comes

Intervals are from random half-samples: a score of half of the items, drawn without replacement,
spreads around the score of all as that does around the score of infinitely many,

    SE = sd over repeats of metric(half of each set),     theta -+ t_{R-1} SE

(McCarthy 1969; Politis, Romano & Wolf 1999). Large sets are thinned for it, and the error is shrunk
by the root of the share that is left. Unlike the bootstrap it never puts an item in twice, which
scores made of nearest neighbours would take for a copy; unlike the jackknife it is not far too
wide for scores that are quadratic at their best, as distances are. For the ratio, theta is its
logarithm.

Legend: R repeats, N items generated, M held out, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.errors import MeasurementError
from morphogen.core.measurement import Measurement
from morphogen.core.metric import Metric
from morphogen.core.random import generator, mix_seed

REPEATS = 20
STUDENT_T = 2.093  # 97.5 % quantile of Student's t with REPEATS - 1 degrees of freedom
FEWEST = 4  # items of a set: half of them must still have a variance
MOST_REPEATED = 2_000  # items of a set that are halved; the error of more shrinks as 1/sqrt(n)
HOW = f"95 %, {REPEATS} random half-samples"


@dataclass(frozen=True)
class FeatureSets:
    """Features of generated items (N, D), of as many training items, and of held-out ones (M, D),
    each in random order."""

    generated: Tensor
    train: Tensor
    reference: Tensor

    @property
    def smallest(self) -> int:
        """Items in the smallest set."""
        return min(len(self.generated), len(self.train), len(self.reference))

    def thinned(self, most: int) -> FeatureSets:
        """At most so many items of each."""
        return FeatureSets(self.generated[:most], self.train[:most], self.reference[:most])

    def half(self, draw: torch.Generator) -> FeatureSets:
        """A random half of each."""
        sets = (self.generated, self.train, self.reference)
        return FeatureSets(
            *(x[torch.randperm(len(x), generator=draw)[: len(x) // 2]] for x in sets)
        )


def check_enough(sets: FeatureSets) -> None:
    """Raise `MeasurementError` for sets that are too small to be halved."""
    if sets.smallest < FEWEST:
        raise MeasurementError(
            "there are too few items to score samples by",
            found=f"{len(sets.generated)} generated, {len(sets.train)} training and "
            f"{len(sets.reference)} held-out items",
            expected=f"at least {FEWEST} of each",
            hint="--num for more samples; add items to the data for more held-out ones",
        )


def measure(
    name: str, sets: FeatureSets, protocol: Mapping[str, Any], seed: int
) -> list[Measurement]:
    """The scores of one metric, as it declares them, and ratios to the floor."""
    metric: Metric = discover.find("metric", name)

    def both(part: FeatureSets) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Scores of the generated items, and of training items in their place."""
        value, floor = (
            metric(each, part.reference, generator=generator(mix_seed(seed, 7)))
            for each in (part.generated, part.train)
        )
        return value, floor

    values, floors = both(sets)
    n = len(sets.generated)
    known_error = metric.standard_error
    if known_error is None:
        some, how = sets.thinned(MOST_REPEATED), HOW
        draw = generator(mix_seed(seed, 8))
        halves = [both(some.half(draw)) for _ in range(REPEATS)]
        shrink = math.sqrt(some.smallest / sets.smallest)
    else:
        halves, shrink, how = [], 1.0, "95 %, from the number of items"
    common: dict[str, Any] = {"n": n, "protocol": protocol, "interval": how}
    measured = []
    for score, higher_is_better in metric.higher_is_better.items():
        value, floor = float(values[score]), float(floors[score])
        if known_error is None:
            half = shrink * STUDENT_T * _deviation([part[score] for part, _ in halves])
        else:
            half = 1.96 * known_error(value, sets.smallest)
        high = value + half
        caution = metric.caution(sets.generated, sets.reference, high) if metric.caution else ""
        measured.append(
            Measurement(
                score, value, low=value - half, high=high, caution=caution,
                higher_is_better=higher_is_better, floor=floor, **common,
            )
        )  # fmt: skip
        pairs = [(part[score], of_floor[score]) for part, of_floor in halves]
        if pairs and higher_is_better is False and min(value, floor, *map(min, pairs)) > 0:
            # Both share the reference, so their errors go together: the ratio's own is smaller.
            error = shrink * _deviation([math.log(a / b) for a, b in pairs])
            factor, ratio = math.exp(STUDENT_T * error), value / floor
            measured.append(
                Measurement(
                    f"{score}_ratio", ratio, low=ratio / factor, high=ratio * factor,
                    higher_is_better=False, floor=1.0, note="times the floor", **common,
                )
            )  # fmt: skip
    return measured


def as_record(measurement: Measurement) -> dict[str, Any]:
    """As JSON, without name and protocol, which an evaluation's record holds once."""
    return {k: v for k, v in measurement.to_json().items() if k not in ("protocol", "name")}


def _deviation(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).std())
