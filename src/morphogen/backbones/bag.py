r"""A bag of tokens: the mean of their vectors, whatever their order.

    out = W (mean of e_t over the real tokens t + V cond) + b

It costs next to nothing, and where there is little text to learn from, which words there are says
most (Joulin et al. 2017, "Bag of tricks for efficient text classification").

Legend: B batch, N positions, T real tokens of all items, D model dimension.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.backbones._parts import VectorHead, is_vector, linear, refuses_output
from morphogen.core.backbone import Backbone
from morphogen.core.spec import TensorSpec


class Bag(Backbone):
    """The mean of the vectors of tokens: sequence to vector."""

    def __init__(
        self,
        in_spec: TensorSpec,
        out_spec: TensorSpec,
        cond_dim: int = 0,
        causal: bool = False,
        *,
        model_dim: int = 256,  # width of a token's vector
    ) -> None:
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.embed_tokens = nn.Embedding(in_spec.vocab_size or 1, model_dim)
        self.cond_proj = linear(cond_dim, model_dim) if cond_dim else None
        self.head = VectorHead(model_dim, out_spec)

    @classmethod
    def refuses(cls, in_spec: TensorSpec, out_spec: TensorSpec, causal: bool = False) -> str | None:
        """It counts tokens of a sequence, and knows nothing of places."""
        if in_spec.kind != "token" or len(in_spec.shape) != 1 or in_spec.sizes is not None:
            return "it counts the tokens of a sequence: use conv or mlp"
        if causal or not is_vector(out_spec):
            return "it tells one vector of all: use token_transformer"
        return refuses_output(out_spec)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """(B, N) tokens, (B, cond_dim) -> (B, *out). N may be shorter."""
        real = self.in_spec.mask(x)
        if real is None:
            real = torch.ones_like(x, dtype=torch.bool)
        begins = real.sum(1).cumsum(0) - real.sum(1)  # (B,) of the items within (T,)
        h = F.embedding_bag(x[real], self.embed_tokens.weight, begins, mode="mean")  # (B, D)
        if self.cond_proj is not None and cond is not None:
            h = h + self.cond_proj(cond)
        found: Tensor = self.head(h)
        return found
