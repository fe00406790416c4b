r"""From the runs of a comparison to an order, with ties called ties, and advice that says why.

Each family's place is by the mean over its seeds of one score, with

    mean -+ t_{k-1} s / sqrt(k)         k seeds of standard deviation s

or, with one seed, the interval of that run. Runs of one seed are measured against the same items
and share their luck, so families are compared seed by seed: a family ties with the best when the
same interval of their differences (of logarithms, where all scores are positive) has 0 in it; with
one seed, when their intervals overlap. How far the order is one of seeds says `stability`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean, stdev
from typing import Any

from morphogen.comparison.stability import Stability, stability
from morphogen.core.measurement import FREE

# 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom.
STUDENT_T = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
JUDGES = ("frechet_ratio_by_classifier", "frechet_ratio_by_whole_item")  # the stricter one decides
SHOWN = (*JUDGES, "precision", "recall")  # beside the score that decides, with bits per unit
FLOOR_REACHED = 1.5  # times the floor: below, samples are about as close as real data comes


@dataclass(frozen=True)
class Place:
    """The place of a family or a chain: its score, what else was measured, and what it cost."""

    family: str
    value: float
    low: float
    high: float
    num_seeds: int
    tie: bool  # it cannot be told from the best
    seconds: float  # of training, mean over seeds
    sampling_seconds_per_1000: float
    memory_bytes: int
    num_parameters: int
    watt_hours: float
    others: Mapping[str, float] = field(default_factory=dict)
    copies: bool = False  # a copying test found that it replays training items
    alarms: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Leaderboard:
    """Places, best first; who is not among them and why; the advice."""

    score: str
    higher_is_better: bool
    places: Sequence[Place]
    absent: Mapping[str, str]  # family -> reason
    advice: str
    stability: Stability | None = None  # of the order; None with one seed or one family
    protocol: Mapping[str, Any] = field(default_factory=dict)  # what all runs have in common

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "score": self.score,
            "higher_is_better": self.higher_is_better,
            "places": [place.to_json() for place in self.places],
            "absent": dict(self.absent),
            "advice": self.advice,
            "stability": None if self.stability is None else self.stability.to_json(),
            "protocol": dict(self.protocol),
        }


def leaderboard(
    runs: Sequence[Mapping[str, Any]],
    score: str,
    absent: Mapping[str, str],
    protocol: Mapping[str, Any] | None = None,
) -> Leaderboard:
    """Rank the families of finished runs (see `runs.run_one`) by `score`.

    `protocol` is what they were trained by; the one that they were measured by is read off them.
    """
    families: dict[str, list[Mapping[str, Any]]] = {}
    missing = dict(absent)
    for run in runs:
        if score in run["evaluation"]["scores"]:
            families.setdefault(run["family"], []).append(run)
        else:
            missing[run["family"]] = f"{score} could not be measured"
    if not families:
        return Leaderboard(score, False, [], missing, "No run could be scored: see the reasons.")
    any_run = next(iter(families.values()))[0]
    higher = bool(any_run["evaluation"]["scores"][score].get("higher_is_better"))
    sign = -1 if higher else 1
    found = sorted(
        (_place(family, own, score) for family, own in families.items()),
        key=lambda place: sign * place.value,
    )
    values = {
        place.family: {
            run["seed"]: run["evaluation"]["scores"][score]["value"]
            for run in families[place.family]
        }
        for place in found
    }

    def ties(first: Place, second: Place) -> bool:
        return _ties(first, second, values[first.family], values[second.family])

    best = found[0]
    places = [replace(each, tie=each is not best and ties(each, best)) for each in found]
    shared, differing = _protocols(runs)
    advice = _advice(score, places, ties)
    if differing:
        advice += f" Mind that not all runs were measured alike: {', '.join(differing)} differ."
    return Leaderboard(
        score, higher, places, missing, advice, stability(values), {**(protocol or {}), **shared}
    )


def _protocols(runs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """What the protocols of all evaluations have in common, and the names of what differs."""
    protocols = [run["evaluation"].get("protocol", {}) for run in runs]
    names = sorted({name for each in protocols for name in each} - FREE)
    shared, differing = {}, []
    for name in names:
        values = [each.get(name) for each in protocols]
        if all(value == values[0] for value in values):
            shared[name] = values[0]
        else:
            differing.append(name)
    return shared, differing


def _place(family: str, runs: Sequence[Mapping[str, Any]], score: str) -> Place:
    scores = [run["evaluation"]["scores"] for run in runs]
    values = [each[score]["value"] for each in scores]
    low, high = _interval(values, scores[0][score])
    names = (*SHOWN, *sorted(name for name in scores[0] if name.startswith("bits_per_")))
    others = {
        name: fmean(each[name]["value"] for each in scores)
        for name in names
        if all(name in each for each in scores)
    }
    copying = [run["evaluation"].get("copying") or {} for run in runs]
    return Place(
        family=family,
        value=fmean(values),
        low=low,
        high=high,
        num_seeds=len(runs),
        tie=False,
        seconds=fmean(run["seconds"] for run in runs),
        sampling_seconds_per_1000=fmean(
            run["evaluation"]["sampling_seconds_per_1000"] for run in runs
        ),
        memory_bytes=max(run["memory_bytes"] for run in runs),
        num_parameters=runs[0]["num_parameters"],
        watt_hours=fmean(run["watt_hours"] for run in runs),
        others=others,
        copies=any(each.get("verdict") == "copies" for each in copying),
        alarms=tuple(sorted({alarm for run in runs for alarm in run.get("alarms", ())})),
    )


def _interval(values: Sequence[float], only: Mapping[str, Any]) -> tuple[float, float]:
    """Over seeds where there are several, else of the one run."""
    if len(values) == 1:
        return only.get("low", values[0]), only.get("high", values[0])
    low = fmean(values) - _half(values)
    high = fmean(values) + _half(values)
    return max(low, 0.0) if min(values) >= 0 else low, high  # no ratio is below 0


def _half(values: Sequence[float]) -> float:
    """Half of the 95 % interval of a mean."""
    quantile = STUDENT_T[min(len(values) - 1, len(STUDENT_T)) - 1]
    return quantile * stdev(values) / math.sqrt(len(values))


def _ties(
    first: Place, second: Place, values: Mapping[int, float], others: Mapping[int, float]
) -> bool:
    """Whether two families cannot be told apart: seed by seed where they share several."""
    pairs = [(values[seed], others[seed]) for seed in sorted(values.keys() & others.keys())]
    if len(pairs) < 2:
        return first.low <= second.high and second.low <= first.high
    if min(map(min, pairs)) > 0:
        pairs = [(math.log(a), math.log(b)) for a, b in pairs]
    gaps = [a - b for a, b in pairs]
    return abs(fmean(gaps)) <= _half(gaps)


def _advice(score: str, places: Sequence[Place], tied: Callable[[Place, Place], bool]) -> str:
    """What to take, and why, in a few sentences that say nothing but what was measured."""
    honest = [place for place in places if not place.copies]
    said = []
    for place in places:
        if place.copies:
            said.append(f"{place.family} replays training items and is left out of the advice.")
    if not honest:
        return " ".join([*said, "No family is to be recommended: every one copies."])
    best = honest[0]
    spread = f"{best.low:.3g} to {best.high:.3g}"
    over = f"{best.num_seeds} seeds" if best.num_seeds > 1 else "one seed"
    said.append(
        f"Take {best.family}: its {score.replace('_', ' ')} of {best.value:.3g} ({spread}, {over}) "
        "is the best."
    )
    ties = [place for place in honest[1:] if tied(place, best)]
    if ties:
        names = ", ".join(place.family for place in ties)
        said.append(f"The difference to {names} is within its interval: a tie.")
        quick = min([best, *ties], key=lambda place: place.sampling_seconds_per_1000)
        if quick is not best:
            said.append(
                f"Of these {quick.family} samples fastest "
                f"({quick.sampling_seconds_per_1000:.3g} s per 1,000 items)."
            )
    if best.num_seeds == 1:
        said.append("One seed says little of luck: --seeds 3 would.")
    if score.endswith("_ratio"):
        said.append(
            "It is about as close to held-out data as training data is."
            if best.value <= FLOOR_REACHED
            else "Real data would score 1, so there is room: a longer --budget, or more data."
        )
    if best.alarms:
        said.append(f"While it trained, the watch saw: {', '.join(best.alarms)}.")
    return " ".join(said)
