"""Metrics that each break one promise, for the kit to catch, and one that keeps them all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from morphogen.core.metric import Features, check_features, scores


def moved(sets, change):
    """The sets with other generated items."""
    return replace(sets, generated=change(sets.generated))


@scores(distance=False)
def distance_of_means(sets: Features, *, generator=None):
    """Distance between the means: keeps every promise."""
    check_features(sets)
    gap = sets.generated.mean(0) - sets.reference.mean(0)
    return {"distance": float(gap.double().norm())}


def no_scores(sets: Features, *, generator=None):
    """Does not say what it returns."""
    return distance_of_means(sets)


@scores(distance="down")
def no_direction(sets: Features, *, generator=None):
    """Says the direction in a word."""
    return distance_of_means(sets)


@scores(distance=False)
def no_generator(sets: Features):
    """Takes no generator."""
    return distance_of_means(sets)


@scores(distance=False)
def unannotated(sets, *, generator=None):
    """Does not say what it needs."""
    return distance_of_means(sets)


@scores(distance=False)
def no_comment(sets: Features, *, generator=None, power: float = 2.0):
    """Has an option that nothing explains."""
    return distance_of_means(sets)


@scores(distance=False)
def no_mapping(sets: Features, *, generator=None):
    """Returns a number."""
    return distance_of_means(sets)["distance"]


@scores(distance=False)
def one_more(sets: Features, *, generator=None):
    """Returns a score that it does not declare."""
    return {**distance_of_means(sets), "items": len(sets.generated)}


@scores(distance=False)
def tensors(sets: Features, *, generator=None):
    """Returns a tensor."""
    return {"distance": torch.tensor(distance_of_means(sets)["distance"])}


@scores(distance=False)
def not_finite(sets: Features, *, generator=None):
    """Divides by zero."""
    return {"distance": distance_of_means(sets)["distance"] * float("inf")}


@scores(distance=False)
def changes_input(sets: Features, *, generator=None):
    """Centres its input in place."""
    check_features(sets)
    sets.generated.sub_(sets.reference.mean(0))
    return {"distance": float(sets.generated.mean(0).norm())}


@scores(distance=False)
def global_draw(sets: Features, *, generator=None):
    """Draws a resample from the global generator."""
    check_features(sets)
    num = len(sets.generated)
    return distance_of_means(moved(sets, lambda x: x[torch.randint(num, (num,))]))


@scores(distance=False)
def never_the_same(sets: Features, *, generator=None):
    """Draws a resample without a seed."""
    check_features(sets)
    num = len(sets.generated)
    index = torch.from_numpy(np.random.default_rng().integers(num, size=num))
    return distance_of_means(moved(sets, lambda x: x[index]))


@scores(distance=False)
def first_items(sets: Features, *, generator=None):
    """Looks at the first ten items."""
    check_features(sets)
    return distance_of_means(moved(sets, lambda x: x[:10]))


@scores(distance=True)
def wrong_way(sets: Features, *, generator=None):
    """Says that far is good."""
    return distance_of_means(sets)


@scores(spread=False)
def blind(sets: Features, *, generator=None):
    """Does not see where the items are."""
    check_features(sets)
    spread = sets.generated.double() - sets.generated.double().mean(0)
    return {"spread": float(spread.square().mean())}


@scores(distance=False)
def best_when_moved(sets: Features, *, generator=None):
    """Is best where the items are moved by one deviation."""
    check_features(sets)
    return distance_of_means(moved(sets, lambda x: x - 1))


@scores(density=True)
def best_when_far(sets: Features, *, generator=None):
    """Is better the farther the items are, once they are moved at all."""
    distance = distance_of_means(sets)["distance"]
    return {"density": 10.0 if distance < 1 else distance}


@scores(distance=False)
def skips_nan(sets: Features, *, generator=None):
    """Leaves out what is not a number."""
    return distance_of_means(Features(sets.generated.nan_to_num(), sets.reference.nan_to_num()))


@scores(distance=False)
def other_error(sets: Features, *, generator=None):
    """Refuses with an error that is not meant for the user."""
    if not torch.isfinite(sets.generated).all():
        raise ValueError("not finite")
    return distance_of_means(sets)
