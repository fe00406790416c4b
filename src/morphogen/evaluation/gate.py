"""Demands on an evaluation, from a file: what a model must show before it goes to work.

    [frechet_ratio]            a score of the evaluation, by name
    at_most = 10

    [precision]
    at_least = 0.6

    [copying]                  the verdict of the copying test
    verdict = "no sign of copying"

    [groups.label]             the groups of a label
    least_ratio = 0.8          of a group's share among samples to its share in training
    largest_gap.accuracy = 0.1 from the best to the worst group, in the unit of the score

A demand on a score must hold for the whole interval: a value that may be luck has not been shown.
For groups that is the interval of all of them at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morphogen.core.border import read_text
from morphogen.core.errors import RecipeError, did_you_mean, missing_path
from morphogen.core.measurement import Measurement
from morphogen.evaluation.evaluate import read_scores

BOUNDS = {"at_most", "at_least"}
OF_GROUPS = {"least_ratio", "largest_gap"}
Demands = Mapping[str, Mapping[str, Any]]


def read_gate(path: Path | str) -> Demands:
    """The demands in a TOML file. Raises `RecipeError` for one that cannot be read."""
    path = Path(path)
    if not path.exists():
        raise missing_path(path)
    try:
        demands = tomllib.loads(read_text(path, RecipeError))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(f"the gate is no TOML: {error}", where=path) from error
    if isinstance(demands.get("groups"), dict):
        demands |= {f"groups.{label}": each for label, each in demands.pop("groups").items()}
    for name, demand in demands.items():
        of_groups = name.startswith("groups.")
        known = OF_GROUPS if of_groups else {"verdict"} if name == "copying" else BOUNDS
        is_table = isinstance(demand, dict) and demand and not set(demand) - known
        if not is_table or not isinstance(demand.get("largest_gap", {}), dict):
            raise RecipeError(
                f"the gate's demand on {name!r} cannot be read",
                found=demand,
                expected=f"[{name}] with {' or '.join(sorted(known))}"
                + (", as in largest_gap.accuracy = 0.1" if of_groups else ""),
                where=path,
            )
    return demands


def failures(record: Mapping[str, Any], demands: Demands) -> list[str]:
    """One sentence for each demand that an evaluation's record does not meet.

    Raises `RecipeError` for a demand on a score that the evaluation does not have.
    """
    scores, found = read_scores(record), []
    for name, demand in demands.items():
        if name == "copying":
            verdict = record.get("copying", {}).get("verdict", "not judged")
            if verdict != demand["verdict"]:
                found.append(f"copying: {verdict!r}, and the gate wants {demand['verdict']!r}")
        elif name.startswith("groups."):
            found += _missed_by_groups(record, name.removeprefix("groups."), demand)
        else:
            found += _missed(_known(name, scores), demand)
    return found


def _known(name: str, measured: Mapping[str, Any]) -> Any:
    """What was measured by that name."""
    if name not in measured:
        raise RecipeError(
            f"the gate asks for {name!r}, which was not measured.{did_you_mean(name, measured)}",
            expected=", ".join(sorted(measured)) or "none was measured",
        )
    return measured[name]


def _missed(score: Measurement, demand: Mapping[str, float]) -> list[str]:
    low = score.value if score.low is None else score.low
    high = score.value if score.high is None else score.high
    found = []
    for bound, limit in demand.items():
        worst, meets = (high, high <= limit) if bound == "at_most" else (low, low >= limit)
        if meets:
            continue
        holds = score.value <= limit if bound == "at_most" else score.value >= limit
        luck = ", which its interval does not bear out" if holds else ""
        found.append(
            f"{score.name}: {score.value:.4g} (as far as {worst:.4g}){luck}, and the gate wants "
            f"{bound.replace('_', ' ')} {limit:g}"
        )
    return found


def _missed_by_groups(
    record: Mapping[str, Any], label: str, demand: Mapping[str, Any]
) -> list[str]:
    told, found = _known(label, record.get("groups", {})), []
    if (least := demand.get("least_ratio")) is not None:
        ratios = told["measured"].get("share_ratio", {})
        if not ratios:
            found.append(f"{label}: shares among samples: not measured, and the gate wants them")
        found += [
            f"{label}: {group} has {cell['value']:.4g} times its share in training (as far as "
            f"{cell['low']:.4g}), and the gate wants at least {least:g}"
            for group, cell in ratios.items()
            if cell["low"] < least
        ]
    for name, most in demand.get("largest_gap", {}).items():
        gap = _known(name, told["gaps"])
        if gap["high"] > most:
            found.append(
                f"{label}: {name}: {gap['value']:.4g} (as far as {gap['high']:.4g}) from "
                f"{gap['best']} to {gap['worst']}, and the gate wants at most {most:g}"
            )
    return found
