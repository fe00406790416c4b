r"""A hinge on what was preferred: answers are told apart by a margin, and no more.

loss = max(0, margin - (log pi(good)/pi_0(good) - log pi(bad)/pi_0(bad)))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.family import Update
from morphogen.objectives._preferences import FromPreferences, ratios


class ToyHinge(FromPreferences):
    """Tells preferred answers from others by a margin."""

    scored: ClassVar[str] = "share of pairs told apart"

    def __init__(
        self,
        *,
        margin: float = 1.0,  # in nats
    ) -> None:
        self.margin = margin

    def step(
        self, batch: Batch, updates: Mapping[str, Update], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One update by a batch of pairs."""
        found = ratios(self.family, self.reference, batch)
        loss = (self.margin - (found.good - found.bad)).clamp(min=0).mean()
        updates[self.family.phases[-1]].minimise(loss)
        return {"loss": loss.detach()}
