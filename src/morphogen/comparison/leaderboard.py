r"""From the runs of a comparison to an order, with ties called ties, and advice that says why.

Each family's place is by the mean over its seeds of one score, with its interval (`seeds`), or,
with one seed, the interval of that run. Others are beside the best: a tie where seeds (with one
seed, intervals) cannot tell the two apart; likely behind where they cannot, but every seed says
so. How far the order is one of seeds says `stability`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any, Literal

from morphogen.comparison.seeds import ENOUGH, Seeds
from morphogen.comparison.stability import Stability, stability
from morphogen.core.measurement import FREE

JUDGES = ("frechet_ratio_by_classifier", "frechet_ratio_by_whole_item")  # the stricter one decides
SHOWN = (*JUDGES, "precision", "recall")  # beside the score that decides, with bits per unit
Standing = Literal["best", "tie", "likely behind", "behind"]
STARVED = 0.6  # of the steps of its family's quickest seed: less, and a run lacked the machine
FLOOR_REACHED = 1.5  # times the floor: below, samples are about as close as real data comes


@dataclass(frozen=True)
class Place:
    """The place of a family or a chain: its score, what else was measured, and what it cost."""

    family: str
    value: float
    low: float
    high: float
    num_seeds: int
    standing: Standing  # beside the best
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
    values = {
        family: {run["seed"]: run["evaluation"]["scores"][score]["value"] for run in own}
        for family, own in families.items()
    }
    over = Seeds(values)
    found = sorted(
        (_place(family, own, score, over) for family, own in families.items()),
        key=lambda place: sign * place.value,
    )
    best = found[0]
    places = [best, *(replace(each, standing=_standing(each, best, over)) for each in found[1:])]
    shared, differing = _protocols(runs)
    advice = _advice(score, places, over)
    if lacking := [said for run in runs if (said := steps_lacking(run, runs))]:
        advice += f" The machine was busy with other things: {'; '.join(lacking)}."
    if differing:
        advice += f" Mind that not all runs were measured alike: {', '.join(differing)} differ."
    return Leaderboard(
        score, higher, places, missing, advice, stability(over.scaled),
        {**(protocol or {}), **shared},
    )  # fmt: skip


def steps_lacking(run: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    """ "gan, seed 1, made 11 steps where seed 0 made 388", of a run that got far less of the
    machine than another seed of its family; empty of others."""
    own = [each for each in runs if each["family"] == run["family"]]
    quickest = max(own, key=lambda each: each["steps"])
    if run["steps"] >= STARVED * quickest["steps"]:
        return ""
    return (
        f"{run['family']}, seed {run['seed']}, made {run['steps']:,} steps where "
        f"seed {quickest['seed']} made {quickest['steps']:,}"
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


def _place(family: str, runs: Sequence[Mapping[str, Any]], score: str, over: Seeds) -> Place:
    scores = [run["evaluation"]["scores"] for run in runs]
    value, only = over.mean(family), scores[0][score]
    low, high = only.get("low", value), only.get("high", value)  # of the one run
    if len(runs) > 1:
        low, high = over.interval(family)
    names = (*SHOWN, *sorted(name for name in scores[0] if name.startswith("bits_per_")))
    others = {
        name: fmean(each[name]["value"] for each in scores)
        for name in names
        if all(name in each for each in scores)
    }
    copying = [run["evaluation"].get("copying") or {} for run in runs]
    return Place(
        family=family,
        value=value,
        low=low,
        high=high,
        num_seeds=len(runs),
        standing="best",
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


def _standing(place: Place, best: Place, over: Seeds) -> Standing:
    """Of a family beside the best (or another that is better)."""
    gap = over.gap(place.family, best.family)
    if gap is None:  # no seeds in common, or one
        apart = place.low > best.high or best.low > place.high
        return "behind" if apart else "tie"
    if gap.apart:
        return "behind"
    return "likely behind" if gap.one_way else "tie"


def _advice(score: str, places: Sequence[Place], over: Seeds) -> str:
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
    seeds = f"{best.num_seeds} seeds" if best.num_seeds > 1 else "one seed"
    said.append(
        f"Take {best.family}: its {score.replace('_', ' ')} of {best.value:.3g} "
        f"({spread}, {seeds}) is the best."
    )
    standings = {place.family: _standing(place, best, over) for place in honest[1:]}
    ties = [place for place in honest[1:] if standings[place.family] == "tie"]
    if ties:
        names = ", ".join(place.family for place in ties)
        said.append(f"The difference to {names} is within its interval: a tie.")
        quick = min([best, *ties], key=lambda place: place.sampling_seconds_per_1000)
        if quick is not best:
            said.append(
                f"Of these {quick.family} samples fastest "
                f"({quick.sampling_seconds_per_1000:.3g} s per 1,000 items)."
            )
    for place in honest[1:]:
        gap = over.gap(place.family, best.family)
        if gap is not None and standings[place.family] == "likely behind":
            said.append(
                f"{place.family} is behind in each of {gap.num_seeds} seeds, by {gap}, which is "
                f"too few to rule out luck: --seeds {max(ENOUGH, gap.num_seeds + 2)} would tell."
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
