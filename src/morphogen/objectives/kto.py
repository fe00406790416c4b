r"""Kahneman-Tversky optimisation: answers that were found good, or bad, each by itself.

    value = sigmoid(beta (r - z))  of a good answer,  sigmoid(beta (z - r))  of a bad one
    loss  = w (1 - value),     r = log pi(y | x) / pi_0(y | x),     z = max(0, mean of r(x_i, y_j))

z is what any answer has gained: answers of the batch, each to the question of another row, stand
for any. As in what people feel of a gain, more is worth less and less. No pairs are needed; of
data with pairs, both answers are used. Ethayarajh et al. 2024 (arXiv:2402.01306).

Legend: B items, L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.family import Update
from morphogen.objectives._preferences import (
    FromPreferences,
    Ratios,
    log_ratio,
    ratios,
    rightly,
)


class KTO(FromPreferences):
    """Makes answers that people liked more probable, and those they did not like less."""

    scored: ClassVar[str] = "share of judgements that the model has learned"

    def __init__(
        self,
        *,
        beta: float = 0.1,  # how near the model stays to what it was
        good_weight: float = 1.0,  # of answers that were found good
        bad_weight: float = 1.0,  # of those that were found bad
    ) -> None:
        self.beta, self.good_weight, self.bad_weight = beta, good_weight, bad_weight

    def step(
        self, batch: Batch, updates: Mapping[str, Update], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One update by a batch of answers."""
        found = ratios(self.family, self.reference, batch)
        with torch.no_grad():
            gained, has = log_ratio(self.family, self.reference, mismatched(batch))
        usual = (gained * has).sum() / has.sum().clamp(min=1)
        loss = self.loss(found, usual.clamp(min=0))
        updates[self.family.phases[-1]].minimise(loss)
        told = {"loss": loss, "usual": usual, "accuracy": rightly(found).mean()}
        return {name: value.detach() for name, value in told.items()}

    def loss(self, found: Ratios, usual: Tensor) -> Tensor:
        """The mean over all answers, `usual` being what any has gained, in nats."""
        good = self.good_weight * (1 - torch.sigmoid(self.beta * (found.good - usual)))
        bad = self.bad_weight * (1 - torch.sigmoid(self.beta * (usual - found.bad)))
        total = (good * found.has_good).sum() + (bad * found.has_bad).sum()
        return total / (found.has_good.sum() + found.has_bad.sum()).clamp(min=1)


def mismatched(batch: Batch) -> Batch:
    """The answers of a batch, each behind the question of the row before it: (B, L)."""
    assert batch.other is not None
    answered = (batch.weight > 0).any(1)
    x = torch.where(answered[:, None], batch.x, batch.other.x)
    learned = torch.where(answered[:, None], batch.weight > 0, batch.other.weight > 0)  # (B, L)
    mixed, weight = x.clone(), torch.zeros_like(learned)
    length = x.shape[1]
    for row in range(len(x)):
        asked = row - 1
        start = int(learned[asked].nonzero()[0]) if bool(learned[asked].any()) else 0
        answer = x[row][learned[row]][: length - start]
        mixed[row, :start] = x[asked, :start]
        mixed[row, start : start + len(answer)] = answer
        mixed[row, start + len(answer) :] = x[asked, -1]
        weight[row, start : start + len(answer)] = True
    return Batch(mixed, weight=weight.float())
