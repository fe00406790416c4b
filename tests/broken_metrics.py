"""Metrics that each break one promise, for the kit to catch, and one that keeps them all."""

from __future__ import annotations

import numpy as np
import torch

from morphogen.core.metric import check_features, scores


@scores(distance=False)
def distance_of_means(features, reference, *, generator=None):
    """Distance between the means: keeps every promise."""
    check_features(features, reference)
    return {"distance": float((features.mean(0) - reference.mean(0)).double().norm())}


def no_scores(features, reference, *, generator=None):
    """Does not say what it returns."""
    return distance_of_means(features, reference)


@scores(distance="down")
def no_direction(features, reference, *, generator=None):
    """Says the direction in a word."""
    return distance_of_means(features, reference)


@scores(distance=False)
def no_generator(features, reference):
    """Takes no generator."""
    return distance_of_means(features, reference)


@scores(distance=False)
def swapped(reference, features, *, generator=None):
    """Takes its arguments in another order."""
    return distance_of_means(features, reference)


@scores(distance=False)
def no_comment(features, reference, *, generator=None, power: float = 2.0):
    """Has an option that nothing explains."""
    return distance_of_means(features, reference)


@scores(distance=False)
def no_mapping(features, reference, *, generator=None):
    """Returns a number."""
    return distance_of_means(features, reference)["distance"]


@scores(distance=False)
def one_more(features, reference, *, generator=None):
    """Returns a score that it does not declare."""
    return {**distance_of_means(features, reference), "items": len(features)}


@scores(distance=False)
def tensors(features, reference, *, generator=None):
    """Returns a tensor."""
    return {"distance": torch.tensor(distance_of_means(features, reference)["distance"])}


@scores(distance=False)
def not_finite(features, reference, *, generator=None):
    """Divides by zero."""
    return {"distance": distance_of_means(features, reference)["distance"] * float("inf")}


@scores(distance=False)
def changes_input(features, reference, *, generator=None):
    """Centres its input in place."""
    check_features(features, reference)
    features -= reference.mean(0)
    return {"distance": float(features.mean(0).norm())}


@scores(distance=False)
def global_draw(features, reference, *, generator=None):
    """Draws a resample from the global generator."""
    check_features(features, reference)
    chosen = features[torch.randint(len(features), (len(features),))]
    return distance_of_means(chosen, reference)


@scores(distance=False)
def never_the_same(features, reference, *, generator=None):
    """Draws a resample without a seed."""
    check_features(features, reference)
    index = np.random.default_rng().integers(len(features), size=len(features))
    return distance_of_means(features[torch.from_numpy(index)], reference)


@scores(distance=False)
def first_items(features, reference, *, generator=None):
    """Looks at the first ten items."""
    check_features(features, reference)
    return distance_of_means(features[:10], reference)


@scores(distance=True)
def wrong_way(features, reference, *, generator=None):
    """Says that far is good."""
    return distance_of_means(features, reference)


@scores(spread=False)
def blind(features, reference, *, generator=None):
    """Does not see where the items are."""
    check_features(features, reference)
    spread = features.double() - features.double().mean(0)
    return {"spread": float(spread.square().mean())}


@scores(distance=False)
def best_when_moved(features, reference, *, generator=None):
    """Is best where the items are moved by one deviation."""
    check_features(features, reference)
    return distance_of_means(features - 1, reference)


@scores(density=True)
def best_when_far(features, reference, *, generator=None):
    """Is better the farther the items are, once they are moved at all."""
    distance = distance_of_means(features, reference)["distance"]
    return {"density": 10.0 if distance < 1 else distance}


@scores(distance=False)
def skips_nan(features, reference, *, generator=None):
    """Leaves out what is not a number."""
    return distance_of_means(features.nan_to_num(), reference.nan_to_num())


@scores(distance=False)
def other_error(features, reference, *, generator=None):
    """Refuses with an error that is not meant for the user."""
    if not torch.isfinite(features).all():
        raise ValueError("not finite")
    return distance_of_means(features, reference)
