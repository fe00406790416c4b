r"""A metric over the sets that it asks for: its scores, each with its floor and interval.

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

Legend: R repeats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from morphogen.core import discover
from morphogen.core.errors import MeasurementError
from morphogen.core.measurement import Measurement
from morphogen.core.metric import Metric, Sets
from morphogen.core.random import generator, mix_seed

REPEATS = 20
STUDENT_T = 2.093  # 97.5 % quantile of Student's t with REPEATS - 1 degrees of freedom
FEWEST = 4  # items of a set: half of them must still have a variance
MOST_REPEATED = 2_000  # items of a set that are halved; the error of more shrinks as 1/sqrt(n)
HOW = f"95 %, {REPEATS} random half-samples"


def check_enough(sets: Sets) -> None:
    """Raise `MeasurementError` for sets that are too small to be halved."""
    if sets.smallest < FEWEST:
        raise MeasurementError(
            "there are too few items to score samples by",
            found=f"{sets.smallest} items in the smallest set",
            expected=f"at least {FEWEST} generated, training and held-out items",
            hint="--num for more samples; add items to the data for more held-out ones",
        )


def measure(name: str, sets: Sets, protocol: Mapping[str, Any], seed: int) -> list[Measurement]:
    """The scores of one metric, as it declares them, and ratios to the floor."""
    metric: Metric = discover.find("metric", name)

    def both(part: Sets) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Scores of what is judged, and of real items in its place."""
        value, floor = (
            metric(each, generator=generator(mix_seed(seed, 7))) for each in (part, part.floor())
        )
        return value, floor

    if metric.protocol is not None:
        protocol = {**protocol, **metric.protocol()}
    values, floors = both(sets)
    n = sets.num_judged
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
        if score not in values:  # it does not apply to items of this kind
            continue
        value, floor = float(values[score]), float(floors[score])
        if known_error is None:
            half = shrink * STUDENT_T * _deviation([part[score] for part, _ in halves])
        else:
            half = 1.96 * known_error(value, sets.smallest)
        high = value + half
        spread = _deviation([part[score] for _, part in halves]) if halves else 0.0
        floor_high = floor + shrink * STUDENT_T * spread if halves else None
        caution = metric.caution(sets, high) if metric.caution else ""
        measured.append(
            Measurement(
                score, value, low=value - half, high=high, caution=caution,
                higher_is_better=higher_is_better, floor=floor,
                floor_high=floor_high, **common,
            )
        )  # fmt: skip
        pairs = [(part[score], of_floor[score]) for part, of_floor in halves]
        is_distance = metric.ratios and higher_is_better is False
        if pairs and is_distance and min(value, floor, *map(min, pairs)) > 0:
            # Both share the reference, so their errors go together: the ratio's own is smaller.
            error = shrink * _deviation([math.log(a / b) for a, b in pairs])
            factor, ratio = math.exp(STUDENT_T * error), value / floor
            measured.append(
                Measurement(
                    f"{score}_ratio", ratio, low=ratio / factor, high=ratio * factor,
                    higher_is_better=False, floor=1.0, note="times the floor",
                    floor_high=None if floor_high is None else floor_high / floor, **common,
                )
            )  # fmt: skip
    return measured


def as_record(
    measurement: Measurement, protocol: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """As JSON, without its name, and without the protocol, which an evaluation's record holds once;
    but with one that is not that of the evaluation."""
    found = {k: v for k, v in measurement.to_json().items() if k not in ("protocol", "name")}
    if protocol is not None and measurement.protocol and measurement.protocol is not protocol:
        found["protocol"] = dict(measurement.protocol)
    return found


def _deviation(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).std())
