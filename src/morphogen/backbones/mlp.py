"""A residual multilayer perceptron, from any item to any item.

    h = W_in x,   h <- h + W_2 silu(shift + (1 + scale) W_1 norm(h)),   out = W_out h

The trunk is not normalised at its end: an output can grow with its input, as a critic's or a
regression's must.

He et al. 2016 (residual branches before activation), Ba et al. 2016 (layer
normalisation).

Legend: B batch, D model dimension.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.backbones._parts import Modulation, VectorHead, VectorStem, linear, refuses_output
from morphogen.core.backbone import Backbone
from morphogen.core.spec import Spec


class MLP(Backbone):
    """A residual multilayer perceptron: any spec to any spec, positions flattened."""

    takes_parts = True

    def __init__(
        self,
        in_spec: Spec,
        out_spec: Spec,
        cond_dim: int = 0,
        causal: bool = False,
        *,
        model_dim: int = 256,  # width of the hidden layers
        num_layers: int = 3,  # residual blocks, of two linear layers each
        dropout_prob: float = 0.0,  # probability of dropping a hidden feature in training
    ) -> None:
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.stem = VectorStem(in_spec, model_dim)
        self.blocks = nn.ModuleList(
            Block(model_dim, cond_dim, dropout_prob) for _ in range(num_layers)
        )
        self.head = VectorHead(model_dim, out_spec)

    @classmethod
    def refuses(cls, in_spec: Spec, out_spec: Spec, causal: bool = False) -> str | None:
        """Everything fits but a causal order, of which flattened positions have none."""
        if causal:
            return "an MLP sees all positions at once and cannot be causal: use transformer or rnn"
        return refuses_output(out_spec)

    def forward(self, x: Any, cond: Tensor | None = None) -> Any:
        """(B, *in), (B, cond_dim) -> (B, *out)."""
        h = self.stem(x)  # (B, D)
        for block in self.blocks:
            h = block(h, cond)
        return self.head(h)


class Block(nn.Module):
    """h + W_2 silu(shift + (1 + scale) W_1 norm(h)); W_2 starts at zero."""

    def __init__(self, dim: int, cond_dim: int, dropout_prob: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.inner = linear(dim, dim)
        self.modulation = Modulation(cond_dim, dim) if cond_dim else None
        self.dropout = nn.Dropout(dropout_prob)
        self.outer = linear(dim, dim, gain=0.0)

    def forward(self, h: Tensor, cond: Tensor | None) -> Tensor:
        """(B, D), (B, cond_dim) -> (B, D)."""
        inner = self.inner(self.norm(h))
        if self.modulation is not None:
            scale, shift = self.modulation(cond)
            inner = torch.addcmul(shift, inner, 1 + scale)
        return h + self.outer(self.dropout(F.silu(inner)))
