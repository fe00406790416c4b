"""One linear map from vectors to vectors: the smallest network that there is.

out = W x + U cond + b
"""

from __future__ import annotations

from torch import Tensor, nn

from morphogen.core.backbone import Backbone
from morphogen.core.spec import Spec, TensorSpec


class ToyLinear(Backbone):
    """One linear map from real vectors to real vectors."""

    def __init__(
        self,
        in_spec: TensorSpec,
        out_spec: TensorSpec,
        cond_dim: int = 0,
        causal: bool = False,
        *,
        bias: bool = True,  # whether nothing is mapped to something
    ) -> None:
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.map = nn.Linear(in_spec.shape[0], out_spec.shape[0], bias=bias)
        self.cond = nn.Linear(cond_dim, out_spec.shape[0], bias=False) if cond_dim else None

    @classmethod
    def refuses(cls, in_spec: Spec, out_spec: Spec, causal: bool = False) -> str | None:
        """All but vectors of numbers."""
        vectors = all(
            isinstance(each, TensorSpec) and each.kind == "real" and len(each.shape) == 1
            for each in (in_spec, out_spec)
        )
        return None if vectors and not causal else "it maps vectors of numbers"

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """(B, in), (B, cond_dim) -> (B, out)."""
        out = self.map(x)
        return out if self.cond is None or cond is None else out + self.cond(cond)
