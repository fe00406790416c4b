"""The groups of a label, the samples to judge, and who judges them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from morphogen.core.errors import MeasurementError
from morphogen.core.measurement import Measurement
from morphogen.core.metric import Features, check_features
from morphogen.evaluation import _shares
from morphogen.evaluation.features import FeatureExtractor

LEVEL = 0.95  # of all intervals of a quantity together
FEWEST_PER_GROUP = 10  # generated items, on average over the groups
LEAST_SKILL = 0.25  # of the judge, from guessing to never failing
PROBED = 5_000  # training items that logistic regression sees

Quantity = dict[str, Measurement]  # by group


@dataclass(frozen=True)
class Groups:
    """A label, what its values are called, and the group of every item."""

    label: str
    names: Sequence[str]
    train: Tensor
    test: Tensor

    @property
    def level(self) -> float:
        """Of the interval of one group."""
        return 1 - (1 - LEVEL) / len(self.names)

    @property
    def how(self) -> str:
        """What is said of the intervals."""
        return f"{LEVEL:.0%} for {len(self.names)} groups at once (Bonferroni)".replace("%", " %")

    def quantity(self, name: str, cells: Mapping[int, Mapping[str, Any]]) -> Quantity:
        """Measurements by the groups' names."""
        return {
            self.names[g]: Measurement(name, interval=self.how, **cell) for g, cell in cells.items()
        }


@dataclass(frozen=True)
class Samples:
    """Generated items as an evaluation sees them, with the real items that they are held to."""

    sets: Features
    train: Tensor  # which items of the training split the features are of
    held_out: Tensor  # which of the test split
    extractor: FeatureExtractor
    # condition -> what was asked for (N, ...) as the data has it; -1 for a class that it has not
    asked: Mapping[str, Tensor]

    @property
    def train_features(self) -> Tensor:
        """Features of the items of the training split."""
        if self.sets.train is None:
            raise MeasurementError("there are no training items to compare with", found="none")
        return self.sets.train


@dataclass(frozen=True)
class Judge:
    """Which group each item is taken for, and what the real ones are."""

    name: str
    generated: Tensor
    train: Tensor
    held_out: Tensor
    actual: Tensor  # the true groups of the held-out items
    trained_on: Tensor  # those of all training items
    num: int

    @classmethod
    def of(cls, groups: Groups, samples: Samples) -> Judge:
        """The classifier's own last layer, or logistic regression on its features."""
        sets, train = samples.sets, samples.train_features
        check_features(sets)
        decide: Callable[[Tensor], Tensor]
        if samples.extractor.target == groups.label:
            name, decide = samples.extractor.name, samples.extractor.classes
        else:
            name = f"logistic regression on features of the {samples.extractor.name}"
            decide = _probe(train, groups.train[samples.train])
        return cls(
            name,
            decide(sets.generated),
            decide(train),
            decide(sets.reference),
            groups.test[samples.held_out],
            groups.train,
            len(groups.names),
        )

    @cached_property
    def confusion(self) -> _shares.Array:
        """Counts (K, K) of held-out items by what they are and what they are taken for."""
        return _shares.confusion(self.actual.numpy(), self.held_out.numpy(), self.num)

    def facts(self) -> dict[str, Any]:
        """What a record says of it."""
        right = float((self.actual == self.held_out).float().mean())
        return {"name": self.name, "accuracy": round(right, 4), "num_held_out": len(self.actual)}

    def check(self) -> None:
        """Raise `MeasurementError` where it cannot say what shares the samples have."""
        if len(self.generated) < FEWEST_PER_GROUP * self.num:
            raise MeasurementError(
                "too few samples for so many groups",
                found=f"{len(self.generated)} for {self.num} groups",
            )
        if (skill := _shares.skill(self.confusion)) < LEAST_SKILL:
            raise MeasurementError(
                "the groups cannot be told apart by the features",
                found=f"{max(skill, 0):.0%} of the way from guessing to never failing",
            )


def _probe(features: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    from sklearn.linear_model import LogisticRegression

    x, y = features[:PROBED].double(), labels[:PROBED]
    mean, scale = x.mean(0), x.std(0).clamp(min=1e-6)
    if len(torch.unique(y)) < 2:
        return lambda other: y[:1].expand(len(other))
    model = LogisticRegression(max_iter=200).fit(((x - mean) / scale).numpy(), y.numpy())
    return lambda other: torch.from_numpy(
        model.predict(((other.double() - mean) / scale).numpy()).astype(np.int64)
    )
