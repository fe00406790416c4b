r"""Direct preference optimisation: of two answers the better one becomes more probable.

    loss = - log sigmoid(beta m),   m = log pi(y+)/pi_0(y+) - log pi(y-)/pi_0(y-)

The reward that explains the preferences by Bradley and Terry's model is beta log pi/pi_0, so that
no model of it is trained (Rafailov et al. 2023, arXiv:2305.18290). With `smoothing` e, a share e of
the preferences is taken to be the wrong way round (Mitchell 2023, "conservative DPO"):

    loss = - (1 - e) log sigmoid(beta m) - e log sigmoid(-beta m)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.family import Update
from morphogen.objectives._preferences import FromPreferences, ratios, rightly


class DPO(FromPreferences):
    """Makes answers more probable than those that people liked less."""

    scored: ClassVar[str] = "share of preferences that the model has learned"

    def __init__(
        self,
        *,
        beta: float = 0.1,  # how near the model stays to what it was
        smoothing: float = 0.0,  # share of preferences that are taken to be wrong, below a half
    ) -> None:
        if not 0 <= smoothing < 0.5:
            raise RecipeError("the share of wrong preferences is below a half", found=smoothing,
                              where="objective.smoothing")  # fmt: skip
        self.beta, self.smoothing = beta, smoothing

    def step(
        self, batch: Batch, updates: Mapping[str, Update], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One update by a batch of pairs."""
        found = ratios(self.family, self.reference, batch)
        if not bool((found.has_good & found.has_bad).all()):
            raise RefusedPair(
                "DPO compares two answers", found="answers that were judged alone",
                hint="--objective kto",
            )  # fmt: skip
        margin = found.good - found.bad
        loss = self.loss(margin).mean()
        updates[self.family.phases[-1]].minimise(loss)
        told = {"loss": loss, "margin": margin.mean(), "accuracy": rightly(found).mean(),
                "good": found.good.mean(), "bad": found.bad.mean()}  # fmt: skip
        return {name: value.detach() for name, value in told.items()}

    def loss(self, margin: Tensor) -> Tensor:
        """Of each margin (B,), in nats."""
        right, wrong = -F.logsigmoid(self.beta * margin), -F.logsigmoid(-self.beta * margin)
        return (1 - self.smoothing) * right + self.smoothing * wrong
