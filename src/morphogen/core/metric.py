"""The contract of the metric axis: features of generated and of real items to scores.

A metric is a function of two sets of features, and says which of its scores are better high:

    @scores(precision=True, recall=True)
    def precision_recall(features, reference, *, generator) -> Mapping[str, float]: ...

It knows nothing of models, modalities or extractors: the same function judges pictures, texts and
tables. Called with real items in place of generated ones it gives the floor.

Legend: N generated items, M reference items, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from morphogen.core.errors import MeasurementError

# From both sets of features and the upper end of a score's interval: a sentence, or "".
Caution = Callable[[Tensor, Tensor, float], str]


class Metric(Protocol):
    """A function that `scores` has marked."""

    higher_is_better: Mapping[str, bool | None]
    standard_error: Callable[[float, int], float] | None  # of a score from n items, where known
    caution: Caution | None  # what is to be known before a score is read, if anything

    def __call__(
        self, features: Tensor, reference: Tensor, *, generator: torch.Generator
    ) -> Mapping[str, float]:
        """(N, D) and (M, D) -> one number per name in `higher_is_better`."""
        ...


F = TypeVar("F", bound=Callable[..., Any])


def scores(
    *,
    standard_error: Callable[[float, int], float] | None = None,
    caution: Caution | None = None,
    **higher_is_better: bool | None,
) -> Callable[[F], F]:
    """Mark a function as a metric, with the direction of each of its scores.

    A metric that knows the `standard_error` of a value from n items is not run again and again to
    find it. One with a `caution` says by it what a reader of its scores must not miss.
    """

    def mark(function: F) -> F:
        function.higher_is_better = higher_is_better  # type: ignore[attr-defined]
        function.standard_error = standard_error  # type: ignore[attr-defined]
        function.caution = caution  # type: ignore[attr-defined]
        return function

    return mark


def check_features(*sets: Tensor, fewest: int = 2) -> None:
    """Raise `MeasurementError` unless all are (N >= fewest, D), of one D, and finite."""
    for name, features in zip(("features", "reference"), sets, strict=False):
        if features.dim() != 2 or features.shape[1] != sets[0].shape[1]:
            raise MeasurementError(
                f"the {name} do not fit", found=tuple(features.shape), expected="(N, D), equal D"
            )
        if len(features) < fewest:
            raise MeasurementError(
                f"too few items of {name} to measure", found=len(features), expected=f">= {fewest}"
            )
        bad = int((~torch.isfinite(features)).any(1).sum())
        if bad:
            raise MeasurementError(
                f"the {name} are not finite",
                found=f"{bad} of {len(features)} items with NaN or infinity",
                hint="the model may have diverged: look at its samples",
            )
