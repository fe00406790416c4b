r"""Every value on its own: a distribution that ignores all dependence between values.

    p(x) = prod_d p(x_d | params_d),    L = -log p(x)

The parameters are those of the spec's likelihood, one set a value, fitted by maximum likelihood.
It is what a density model has to beat, and the smallest family there is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.family import Family
from morphogen.core.likelihood import build_likelihood
from morphogen.core.spec import TensorSpec


class ToyAverage(Family):
    """Independent values, fitted by maximum likelihood."""

    log_prob_is = "exact"
    default_backbone = "mlp"

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        *,
        likelihood: str = "auto",  # p(x | params): auto, gaussian, bernoulli, categorical
    ) -> None:
        super().__init__(spec, conditions, backbone)
        self.likelihood = build_likelihood(spec, likelihood)
        self.params = nn.Parameter(torch.zeros(self.likelihood.param_spec.shape))

    def loss(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p(x), per item."""
        return -self.log_prob(batch.x, generator=generator), {}

    def log_prob(
        self, x: Tensor, *, cond: Mapping[str, Tensor] | None = None, generator: torch.Generator
    ) -> Tensor:
        """(B, *) -> (B,)."""
        return self.likelihood.log_prob(self._expanded(len(x)), x).flatten(1).sum(1)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
    ) -> Tensor:
        """(num, *shape)."""
        return self.likelihood.sample(self._expanded(num), generator)

    def _expanded(self, num: int) -> Tensor:
        return self.params.expand(num, *self.params.shape)
