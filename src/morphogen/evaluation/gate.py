"""Demands on an evaluation, from a file: what a model must show before it goes to work.

    [frechet_ratio]            a score of the evaluation, by name
    at_most = 10

    [precision]
    at_least = 0.6

    [copying]                  the verdict of the copying test
    verdict = "no sign of copying"

A demand on a score must hold for the whole interval: a value that may be luck has not been shown.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morphogen.core.errors import RecipeError, did_you_mean, missing_path
from morphogen.core.measurement import Measurement
from morphogen.evaluation.evaluate import read_scores

BOUNDS = {"at_most", "at_least"}
Demands = Mapping[str, Mapping[str, Any]]


def read_gate(path: Path | str) -> Demands:
    """The demands in a TOML file. Raises `RecipeError` for one that cannot be read."""
    path = Path(path)
    if not path.is_file():
        raise missing_path(path)
    try:
        demands = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"the gate is no TOML: {error}", where=path) from error
    for name, demand in demands.items():
        known = {"verdict"} if name == "copying" else BOUNDS
        if not isinstance(demand, dict) or not demand or set(demand) - known:
            raise RecipeError(
                f"the gate's demand on {name!r} cannot be read",
                found=demand,
                expected=f"[{name}] with {' or '.join(sorted(known))}",
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
            continue
        if name not in scores:
            raise RecipeError(
                f"the gate asks for {name!r}, which was not measured.{did_you_mean(name, scores)}",
                expected=", ".join(sorted(scores)),
            )
        found += _missed(scores[name], demand)
    return found


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
