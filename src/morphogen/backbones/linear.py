r"""One linear map: what can be told from features that somebody else has learned.

    out = W (dropout(x) + V cond) + b

Where a frozen network has done the seeing (`--through`), a few thousand items teach a linear map of
its features better than layers, which learn them by heart. With `dropout_prob`, values are dropped
in training, so that no few of thousands are relied on (a linear probe: Alain & Bengio 2016,
arXiv:1610.01644).

Legend: B batch.
"""

from __future__ import annotations

from torch import Tensor, nn

from morphogen.backbones import _parts as parts
from morphogen.core.backbone import Backbone
from morphogen.core.spec import TensorSpec


class Linear(Backbone):
    """A linear map of numbers, positions flattened."""

    def __init__(
        self,
        in_spec: TensorSpec,
        out_spec: TensorSpec,
        cond_dim: int = 0,
        causal: bool = False,
        *,
        dropout_prob: float = 0.0,  # probability of dropping a value in training
    ) -> None:
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.dropout = nn.Dropout(dropout_prob)
        self.head = parts.VectorHead(in_spec.num_values, out_spec)
        self.cond_proj = parts.linear(cond_dim, in_spec.num_values) if cond_dim else None

    @classmethod
    def refuses(cls, in_spec: TensorSpec, out_spec: TensorSpec, causal: bool = False) -> str | None:
        """It adds up numbers, of all positions at once."""
        if in_spec.kind != "real":
            return "it adds up numbers, and tokens are none: use bag or mlp"
        if causal:
            return "it sees all positions at once and cannot be causal: use transformer or rnn"
        return parts.refuses_output(out_spec)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """(B, *in), (B, cond_dim) -> (B, *out)."""
        h = self.dropout(x.flatten(1))
        if self.cond_proj is not None and cond is not None:
            h = h + self.cond_proj(cond)
        found: Tensor = self.head(h)
        return found
