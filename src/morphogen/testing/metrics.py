"""The promises of a metric: `metric(features, reference, *, generator) -> {score: number}`.

Held to Gaussian features. Three draws of the reference's own distribution must each score better
than items that are moved by one deviation, and those no worse than items moved by three, in the
direction that each score declares.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from morphogen.core.errors import MeasurementError
from morphogen.core.random import generator, rand, randn
from morphogen.testing._promises import check_described, leaves_global_rng, promise, works

NUM_GENERATED, NUM_REFERENCE, NUM_FEATURES = 100, 120, 4
TOLERANCE = 1e-6  # of a score, for items in another order


def check_metric(metric: Callable[..., Any]) -> None:
    """Hold a metric to its contract."""
    name = metric.__name__
    check_described(metric)
    declared: Mapping[str, bool | None] = getattr(metric, "higher_is_better", {})
    promise(
        declared,
        f"{name} declares no scores: mark it with core.metric.scores",
    )
    known = all(direction in (True, False, None) for direction in declared.values())
    promise(known, f"{name}: the direction of a score is True, False or None, not {declared}")
    _check_signature(metric, name)
    reference = _draw(NUM_REFERENCE, seed=0)
    equal = [_draw(NUM_GENERATED, seed=seed) for seed in (1, 2, 3)]
    found = [_run(metric, features, reference) for features in equal]
    _check_repeats(metric, equal[0], reference, found[0])
    shifted = [_run(metric, equal[0] + distance, reference) for distance in (1, 3)]
    for score, higher in declared.items():
        if higher is not None:
            one, three = (_signed(each[score], higher) for each in shifted)
            worst = min(_signed(each[score], higher) for each in found)
            better = "higher" if higher else "lower"
            promise(
                worst > one,
                f"{name} says that {better} is better, but {score} is {abs(worst):.4g} for equal "
                f"distributions and {abs(one):.4g} for one moved by a deviation",
            )
            promise(
                one >= three,
                f"{name} says that {better} is better, but {score} is {abs(one):.4g} for items "
                f"moved by one deviation and {abs(three):.4g} for those moved by three",
            )
    _check_refusals(metric, equal[0], reference)


def _check_signature(metric: Callable[..., Any], name: str) -> None:
    parameters = inspect.signature(metric).parameters
    given = tuple(parameters)[:2]
    wanted = ("features", "reference")
    promise(given == wanted, f"{name} takes {given}, not {wanted}")
    keyword = "generator" in parameters
    keyword = keyword and parameters["generator"].kind is inspect.Parameter.KEYWORD_ONLY
    promise(keyword, f"{name} has no keyword-only argument 'generator'")


def _run(
    metric: Callable[..., Any], features: Tensor, reference: Tensor, where: str = ""
) -> Mapping[str, float]:
    """The scores, once they are what was declared: those names, finite numbers."""
    name = metric.__name__ + where
    kept = features.clone(), reference.clone()
    with works(name), leaves_global_rng(name):
        found = metric(features, reference, generator=generator(5))
    promise(isinstance(found, Mapping), f"{name} returns a {type(found).__name__}, not a mapping")
    declared = metric.higher_is_better  # type: ignore[attr-defined]
    promise(
        set(found) == set(declared),
        f"{name} returns {', '.join(sorted(found))}, but declares {', '.join(sorted(declared))}",
    )
    for score, value in found.items():
        number = isinstance(value, (int, float))
        promise(number, f"{name}: {score} is a {type(value).__name__}, not a number")
        promise(math.isfinite(value), f"{name}: {score} is not finite, but {value}")
    same = torch.equal(kept[0], features) and torch.equal(kept[1], reference)
    promise(same, f"{name} changes its input")
    return found


def _check_repeats(
    metric: Callable[..., Any], features: Tensor, reference: Tensor, found: Mapping[str, float]
) -> None:
    """One seed gives one result, in whatever order the items come."""
    name = metric.__name__
    again = _run(metric, features, reference)
    promise(dict(again) == dict(found), f"{name} gives two results for one generator seed")
    mixed = [x[rand((len(x),), generator(6)).argsort()] for x in (features, reference)]
    other = _run(metric, mixed[0], mixed[1], " in another order")
    for score, value in found.items():
        same = math.isclose(value, other[score], rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        promise(
            same,
            f"{name}: {score} depends on the order of the items: {value:.6g}, {other[score]:.6g}",
        )


def _check_refusals(metric: Callable[..., Any], features: Tensor, reference: Tensor) -> None:
    """What cannot be measured is a `MeasurementError`, and not a number."""
    bad = [x.clone() for x in (features, reference)]
    for x in bad:
        x[3, 1] = torch.nan
    cases = {
        "features with NaN": (bad[0], reference),
        "a reference with NaN": (features, bad[1]),
        "sets with unequal numbers of features": (features, reference[:, :-1]),
        "sets of one item": (features[:1], reference[:1]),
    }
    for what, (one, two) in cases.items():
        try:
            metric(one, two, generator=generator(5))
        except MeasurementError:
            continue
        except Exception as error:
            raise AssertionError(
                f"{metric.__name__} answers {what} with a {type(error).__name__}, "
                "not a MeasurementError"
            ) from error
        raise AssertionError(f"{metric.__name__} does not refuse {what}")


def _draw(num: int, seed: int) -> Tensor:
    """Correlated Gaussian features (num, D), of deviation 1."""
    x = randn((num, NUM_FEATURES), generator(seed))
    return (x + 0.5 * x.roll(1, dims=1)) / math.sqrt(1.25)


def _signed(value: float, higher: bool) -> float:
    """The score such that higher is better."""
    return value if higher else -value
