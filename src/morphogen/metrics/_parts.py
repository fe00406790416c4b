"""What metrics share: refusing features that say nothing, and order that does not matter."""

from __future__ import annotations

import torch
from torch import Tensor

from morphogen.core.errors import MeasurementError
from morphogen.core.metric import Features, check_features
from morphogen.core.random import generator as seeded
from morphogen.core.random import rand, randn


def check_informative(sets: Features, *, fewest: int = 2) -> None:
    """`check_features`, and the reference must vary: over features that do not, all sets agree.

    Generated items that are all alike are another matter: a model that collapsed gets its score.
    """
    check_features(sets, fewest)
    reference = sets.reference
    if len(reference) > 1 and bool((reference == reference[0]).all()):
        raise MeasurementError(
            "the features of the reference do not vary",
            found=f"{len(reference)} items with the same {reference.shape[1]} features",
            expected="features that tell real items apart",
            hint="check the feature extractor, and that the reference is not one item repeated",
        )


def shuffled(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """The items in an order that the generator and their values decide, not the order they came in.

    Sorted along a random direction, then permuted at random: (N, D) -> (N, D). Metrics that look
    at parts of a set take them from here. Without a generator the seed is 0.
    """
    generator = generator or seeded(0)
    direction = randn((x.shape[1],), generator).to(x.device, torch.float64)
    draws = rand((len(x),), generator)
    along = (x.double() @ direction).argsort(stable=True)
    return x[along[draws.argsort(stable=True).to(x.device)]]
