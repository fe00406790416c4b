r"""Bias: how groups of items are represented in data and samples, and how well each is served.

A group is a value of a label that comes with the data. For every label there is:

    share in training, in held-out items    exact binomial intervals
    share among samples, and its ratio      as a judge sees them, corrected for its own mistakes
    to the share in training                (`_shares`), with an overall test and a distance
    drawn as asked                          of the items asked for as of a group, how many are
                                            judged so; the floor is that of real items
    every score of single held-out items    the mean in each group
    frechet_ratio                           distance of a group's samples to its held-out items,
                                            over that of its training items

The judge is the last layer of the classifier whose features the evaluation uses where that
predicts the label, else logistic regression on those features. The reference of representation is
the training split, which is what the model was asked to be like.

Intervals hold for all groups of a label at once: each is at 1 - 0.05 / K (Bonferroni), so that
the true gap between the worst and the best group is

    max_g low_g - min_g high_g  <=  max_g value_g - min_g value_g  <=  max_g high_g - min_g low_g

with 95 %. A group is flagged where its interval leaves out 1, or the first of these is above 0.

Legend: K groups, N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from morphogen.core.errors import MeasurementError, RecipeError, did_you_mean
from morphogen.core.measurement import Measurement
from morphogen.core.metric import Features
from morphogen.core.random import mix_seed
from morphogen.data.dataset import Data
from morphogen.evaluation import _shares
from morphogen.evaluation._group_report import findings
from morphogen.evaluation._judge import Groups, Judge, Quantity, Samples
from morphogen.evaluation.intervals import binomial_interval, mean_interval
from morphogen.evaluation.scores import REPEATS, STUDENT_T, as_record, measure

MOST_GROUPS = 50
FEWEST_ITEMS = 5  # held-out items of a group, for a mean of them to have an interval
FEWEST_TO_COMPARE = 50  # items of a group, generated and real, for a distance between them
FEWEST_JUDGED = 10  # held-out items of a group: with fewer the judge is hardly known there


@dataclass(frozen=True)
class ItemScores:
    """A score of held-out items one by one: `values` (N,) of the items at `index` of the split."""

    name: str
    values: Tensor
    index: Tensor
    higher_is_better: bool
    note: str
    shared_error: float = 0.0  # the standard error that all of them have in common


def labels_of(data: Data, declared: Sequence[str] | None = None) -> list[str]:
    """The labels to measure groups by: those declared, or all that have two values or more.

    Raises `RecipeError` for one that the data does not have, or that has no or too many groups.
    """
    labels = {name: spec.vocab_size or 0 for name, spec in data.conditions.items() if spec.is_label}
    if declared is None:
        return [name for name, num in labels.items() if num >= 2]
    for name in declared:
        if name not in labels:
            raise RecipeError(
                f"the data has no label {name!r} to group items by.{did_you_mean(name, labels)}",
                expected=", ".join(labels) or "data with labels: a folder for each class",
                hint="morphogen inspect says what the data has",
            )
        if not 2 <= labels[name] <= MOST_GROUPS:
            raise RecipeError(
                f"{name!r} cannot be compared by group",
                found=f"{labels[name]:,} groups",
                expected=f"2 to {MOST_GROUPS}",
                hint="declare a coarser label",
            )
    return list(dict.fromkeys(declared))


def class_names(data: Data, label: str) -> list[str]:
    """What the values of a label are called, or their numbers."""
    return data.codec.class_names(label) or [
        str(g) for g in range(data.conditions[label].vocab_size or 0)
    ]


def measure_groups(
    data: Data,
    labels: Sequence[str],
    items: Sequence[ItemScores],
    samples: Samples | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """What an evaluation's record says of the groups of each label, as JSON."""
    found: dict[str, Any] = {}
    for label in labels:
        groups = _groups(data, label)
        if len(groups.names) > MOST_GROUPS:
            many = f"{len(groups.names):,} groups are more than {MOST_GROUPS}: not measured"
            found[label] = {"measured": {}, "gaps": {}, "notes": [many], "findings": []}
            continue
        found[label] = _measure_label(groups, items, samples, seed)
    return found


def _groups(data: Data, label: str) -> Groups:
    """The groups of a label; items without one are a group of their own."""
    names, splits = class_names(data, label), (data.train.cond[label], data.test.cond[label])
    if any(bool((split < 0).any()) for split in splits):
        splits = (
            splits[0].where(splits[0] >= 0, len(names)),
            splits[1].where(splits[1] >= 0, len(names)),
        )
        names = [*names, f"no {label}"]
    return Groups(label, names, *splits)


def _measure_label(
    groups: Groups, items: Sequence[ItemScores], samples: Samples | None, seed: int
) -> dict[str, Any]:
    notes: list[str] = []
    measured = {
        "share_in_training": _shares_of(groups, "share_in_training", groups.train),
        "share_in_held_out": _shares_of(groups, "share_in_held_out", groups.test),
    }
    told: dict[str, Any] = {"interval": groups.how}
    scored = {each.name: _by_group(groups, each, notes) for each in items}
    if samples is not None:
        try:
            judge = Judge.of(groups, samples)
            told["judge"] = judge.facts()
            measured["drawn_as_asked"] = _as_asked(groups, judge, samples)
            scored["frechet_ratio"] = _distances(groups, judge, samples, seed)
            shares, more = _among_samples(groups, judge, notes, seed)
            measured |= shares
            told |= more
        except MeasurementError as error:  # the other numbers are worth having
            notes.append(f"samples were not measured further: {error.message} ({error.found})")
    told["gaps"] = {name: _gap(cells) for name, cells in scored.items() if len(cells) > 1}
    told["measured"] = {
        name: {group: as_record(each) for group, each in cells.items()}
        for name, cells in (measured | scored).items()
        if cells
    }
    return {**told, "notes": notes, "findings": findings(groups.label, told)}


# -- data and errors -----------------------------------------------------------------------------


def _shares_of(groups: Groups, name: str, labels: Tensor) -> Quantity:
    counts = torch.bincount(labels, minlength=len(groups.names)).tolist()
    cells = {}
    for g, count in enumerate(counts):
        low, high = binomial_interval(count, len(labels), groups.level)
        cells[g] = {"value": count / len(labels), "n": len(labels), "low": low, "high": high}
    return groups.quantity(name, cells)


def _by_group(groups: Groups, scores: ItemScores, notes: list[str]) -> Quantity:
    """The mean in each group that has enough items."""
    own, cells, few = groups.test[scores.index], {}, []
    for g, name in enumerate(groups.names):
        values = scores.values[own == g].double().numpy()
        if len(values) < FEWEST_ITEMS:
            few.append(f"{name} ({len(values)})")
        elif np.isfinite(values).all():
            low, high, _ = mean_interval(values, groups.level, scores.shared_error)
            cells[g] = {
                "value": float(values.mean()), "n": len(values), "low": low, "high": high,
                "higher_is_better": scores.higher_is_better, "note": scores.note,
            }  # fmt: skip
        else:
            notes.append(f"{scores.name} of {name} is not finite")
    if few:
        notes.append(
            f"{scores.name}: fewer than {FEWEST_ITEMS} held-out items of {', '.join(few)}: left out"
        )
    return groups.quantity(scores.name, cells)


def _gap(cells: Quantity) -> dict[str, Any]:
    """From the best to the worst group, with the interval of the true gap (see above)."""
    up = next(iter(cells.values())).higher_is_better
    ordered = sorted(cells, key=lambda group: cells[group].value, reverse=not up)
    worst, best = ordered[0], ordered[-1]
    lows, highs = zip(
        *((each.low or 0.0, each.high or 0.0) for each in cells.values()), strict=True
    )
    low = max(0.0, max(lows) - min(highs))
    return {
        "value": abs(cells[worst].value - cells[best].value),
        "low": low, "high": max(highs) - min(lows), "worst": worst, "best": best,
        "separate": low > 0,
    }  # fmt: skip


# -- samples -------------------------------------------------------------------------------------


def _among_samples(
    groups: Groups, judge: Judge, notes: list[str], seed: int
) -> tuple[dict[str, Quantity], dict[str, Any]]:
    """Shares among the samples and their ratios to those in training; distance and test."""
    judge.check()
    found = _shares.compare_shares(
        *(x.numpy() for x in (judge.generated, judge.actual, judge.held_out, judge.trained_on)),
        num=judge.num,
        seed=mix_seed(seed, 11),
    )
    common: dict[str, Any] = {"n": len(judge.generated)}
    measured = {}
    for name, value, draws in (
        ("share_in_samples", found.value, found.draws),
        ("share_ratio", found.ratio, found.ratio_draws),
    ):
        low, high = _shares.interval(draws, groups.level)
        cells = {
            g: {
                "value": float(value[g]),
                "low": min(float(low[g]), float(value[g])),
                "high": max(float(high[g]), float(value[g])),
                **common,
            }
            for g in range(judge.num)
            if np.isfinite(value[g])
        }
        measured[name] = groups.quantity(name, cells)
    half = 1.96 * found.distance_error
    distance = Measurement(
        "total_variation", found.distance, higher_is_better=False, floor=found.floor,
        low=max(0.0, found.distance - half), high=min(1.0, found.distance + half),
        interval="95 %, normal, over draws of all counts", **common,
    )  # fmt: skip
    told = {
        "total_variation": as_record(distance),
        "test": {
            "chi_square": found.chi_square, "freedom": found.freedom, "p_value": found.p_value,
        },
    }  # fmt: skip
    counts = judge.confusion.sum(1)
    if few := [
        f"{groups.names[g]} ({counts[g]:.0f})"
        for g in range(judge.num)
        if counts[g] < FEWEST_JUDGED
    ]:
        notes.append(
            f"n is small: fewer than {FEWEST_JUDGED} held-out items of {', '.join(few)} to know "
            "the judge's mistakes by; their shares among samples have wide intervals"
        )
    return measured, told


def _as_asked(groups: Groups, judge: Judge, samples: Samples) -> Quantity:
    """Of the items asked for as of a group, how many are judged so; the floor is real items'."""
    cells: dict[int, dict[str, Any]] = {}
    asked = samples.asked.get(groups.label)
    for g in range(judge.num if asked is not None else 0):
        own, real = judge.generated[asked == g] == g, judge.held_out[judge.actual == g] == g
        if not len(own) or not len(real):
            continue
        low, high = binomial_interval(int(own.sum()), len(own), groups.level)
        floor_low, _ = binomial_interval(int(real.sum()), len(real), groups.level)
        cells[g] = {
            "value": float(own.float().mean()), "n": len(own), "low": low, "high": high,
            "higher_is_better": True, "floor": float(real.float().mean()),
            "note": "less often than real items" if high < floor_low else "",
        }  # fmt: skip
    return groups.quantity("drawn_as_asked", cells)


def _distances(groups: Groups, judge: Judge, samples: Samples, seed: int) -> Quantity:
    """The Frechet distance of each group's samples over that of as many training items.

    Groups are those asked for and the true ones; where nothing was asked for, as judged, all alike.
    """
    asked, sets = samples.asked.get(groups.label), samples.sets
    own = (judge.generated, judge.train, judge.held_out)
    if asked is not None:
        own = (asked, groups.train[samples.train], judge.actual)
    wider = _wider(groups.level)
    cells: Quantity = {}
    for g, name in enumerate(groups.names):
        generated, train, reference = (
            features[member == g]
            for features, member in zip(
                (sets.generated, samples.train_features, sets.reference), own, strict=True
            )
        )
        num = min(len(generated), len(train))
        part = Features(generated[:num], reference, train[:num])
        if part.smallest < FEWEST_TO_COMPARE:
            continue
        for each in measure("frechet", part, {}, seed):
            if each.name == "frechet_ratio" and each.low is not None:
                factor = (each.value / each.low) ** wider
                cells[name] = replace(
                    each, low=each.value / factor, high=each.value * factor, interval=groups.how
                )
    return cells


def _wider(level: float) -> float:
    """How much longer an interval of half-samples is at `level` than at 95 %."""
    from scipy.stats import t  # type: ignore[import-untyped]

    return float(t.ppf((1 + level) / 2, REPEATS - 1)) / STUDENT_T
