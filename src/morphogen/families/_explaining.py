r"""What autoregressive models can say of themselves where their network shows it.

rollout       R = A_N .. A_1, A_l = (mean over heads of attention + 1) / 2
              (Abnar & Zuidema 2020, Quantifying attention flow in transformers)
attribution   a_ij = <h_j, d log p(x_i | x_<i) / d h_j>, h_j what was read at place j
              (Shrikumar et al. 2016, gradient x input)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from morphogen.core.backbone import CanTell
from morphogen.core.condition_readers import mean_of_real
from morphogen.core.explaining import Explanation, ShowsAttention
from morphogen.core.likelihood import NEVER


class ShowsStates:
    """Features and explanations, for families whose network has what they take."""

    network: Any

    @property
    def features(self) -> Callable[[Tensor], Tensor]:
        """The mean state of what is real of items (B, L) -> (B, D)."""
        if not isinstance(self.network, CanTell):
            raise AttributeError("features")
        return self._features

    @property
    def explain(self) -> Callable[..., Explanation]:
        """What the model says of each token of a text; see `core.explaining.CanExplain`."""
        if not isinstance(self.network, ShowsAttention):
            raise AttributeError("explain")
        return self._explain

    def states(self: Any, x: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """What `told` makes the probabilities of each token of items from: (B, *) -> (B, L, C)."""
        tokens, context = self.to_tokens(x), self.embedded(cond, len(x))
        if isinstance(self.network, CanTell):
            return self.network.features(self.inputs(tokens), *context)
        params: Tensor = self.network.run(self.inputs(tokens), *context)
        return (params if self.never is None else params.masked_fill(self.never.T, NEVER)).mT

    def told(self: Any, states: Tensor) -> Tensor:
        """(..., C) -> logits of every token of an item (..., V)."""
        isolated = isinstance(self.network, CanTell)
        return (self.network.logits(states) if isolated else states)[..., : self.vocab_size]

    def _features(self: Any, x: Tensor) -> Tensor:
        tokens = self.to_tokens(x)
        states = self.network.features(self.inputs(tokens), *self.embedded(None, len(x)))
        return mean_of_real(states, self.spec.mask(x))

    def _explain(
        self: Any,
        tokens: Tensor,
        *,
        cond: Mapping[str, Tensor] | None = None,
        num_alternatives: int = 5,
    ) -> Explanation:
        n = len(tokens)
        x = tokens[None].to(self.device)
        with torch.enable_grad():
            entered, logits, attention = self.network.seen(self.inputs(x), *self.embedded(cond, 1))
            log_p = logits[0, :, : self.vocab_size].log_softmax(-1)  # (n, V)
            own = log_p.gather(1, x[0, :, None])[:, 0]
            slopes = [torch.autograd.grad(each, entered, retain_graph=True)[0][0] for each in own]
        log_p, own = log_p.detach(), own.detach()
        most = log_p.exp().topk(min(num_alternatives, self.vocab_size), dim=1)
        pairs = zip(most.indices.tolist(), most.values.tolist(), strict=True)
        layers = attention.detach()[:, 0].mean(1)  # (N, n, n)
        rollout = itself = torch.eye(n).to(layers)
        for layer in layers:
            rollout = (layer + itself) / 2 @ rollout
        return Explanation(
            own,
            1 + (log_p > own[:, None]).sum(1),
            [list(zip(ids, probs, strict=True)) for ids, probs in pairs],
            layers,
            rollout,
            (torch.stack(slopes) * entered.detach()[0]).sum(-1),
        )
