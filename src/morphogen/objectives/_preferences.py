"""How much more probable answers have become, of which one was found good and one bad.

Legend: B items, L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.errors import RefusedPair
from morphogen.core.family import Family, HealthyRange
from morphogen.core.objective import Judge, Reference
from morphogen.objectives._likelihoods import check_likelihood, log_probs

SAME = 1e-4  # nats: what two ways of adding up may differ by


@dataclass(frozen=True)
class Ratios:
    """log pi(y | x) - log pi_0(y | x) of the answers y that count, in nats, (B,); and which rows
    have such an answer, (B,) bool."""

    good: Tensor
    bad: Tensor
    has_good: Tensor
    has_bad: Tensor


class FromPreferences:
    """What every objective has that learns from answers that were found good or bad."""

    train_defaults: ClassVar[dict[str, Any]] = {"num_previews": 4}
    watched: Mapping[str, HealthyRange] = {}
    rate: ClassVar[float] = 0.1
    judged: ClassVar[bool] = False

    def put_on(self, family: Family, reference: Reference, judge: Judge | None) -> None:
        """Teach this family what people preferred."""
        check_likelihood(family, self)
        self.family, self.reference = family, reference

    def scores(self, family: Family, batch: Batch, generator: torch.Generator) -> Tensor:
        """See `rightly`: (B,)."""
        return rightly(ratios(family, self.reference, batch))

    def shown(self) -> list[str]:
        """Nothing: it draws nothing."""
        return []


def ratios(family: Family, reference: Reference, batch: Batch) -> Ratios:
    """How much more probable the answers have become. Raises `RefusedPair` for data without."""
    if batch.other is None:
        raise RefusedPair(
            "nothing says which of two answers is better",
            found="data without preferences",
            expected="prompt, chosen and rejected; or messages and label",
        )
    good, has_good = log_ratio(family, reference, batch)
    bad, has_bad = log_ratio(family, reference, batch.other)
    return Ratios(good, bad, has_good, has_bad)


def log_ratio(family: Family, reference: Reference, batch: Batch) -> tuple[Tensor, Tensor]:
    """log pi - log pi_0 of the tokens with weight, (B,), and which rows have any, (B,)."""
    weight: Any = batch.weight
    has = (weight > 0).flatten(1).any(1)
    log_p = log_probs(family, batch, 0).sum(1)
    with torch.no_grad(), reference.at_work() as base:
        before = log_probs(base, batch, 0).sum(1)
    return log_p - before, has


def rightly(found: Ratios) -> Tensor:
    """Of each row, 1 where good answers have become more probable, or the good one more than the
    bad; 0 where less; a half where nothing has changed. (B,)."""
    both = found.has_good & found.has_bad
    alone = torch.where(found.has_good, found.good, -found.bad)
    gain = torch.where(both, found.good - found.bad, alone)
    return (torch.where(gain.abs() < SAME, 0.0, gain).sign() + 1) / 2
