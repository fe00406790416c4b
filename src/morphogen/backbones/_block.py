"""One layer of a transformer over tokens: attention, a feed-forward layer, and where norms stand.

    before   h + branch(norm h)          as most do (Xiong et al. 2020)
    after    norm(h + branch h)          as the first did, and BERT does (Vaswani et al. 2017)
    both     h + norm(branch(norm h))    as Gemma 2 does (Gemma Team 2024)

Legend: B batch, N positions, n of them new, D model dimension, K heads of keys and values, E head
dimension, M positions kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from morphogen.backbones import _parts as parts
from morphogen.backbones._attention import CrossAttention, SelfAttention
from morphogen.backbones._sequence import ACTIVATIONS, GLU, MLP, bare
from morphogen.core.conditioning import Context

Place = Literal["before", "after", "both"]


class Layer(nn.Module):
    """Attention and a feed-forward layer, each normalised and added; between them, where there is
    a context, attention to it."""

    def __init__(
        self,
        self_attn: SelfAttention,
        mlp: GLU | MLP,
        cross_attn: CrossAttention | None,
        *,
        norm: Callable[[], nn.Module],
        place: Place,
        is_entered_normal: bool,
        is_local: bool,
        dropout_prob: float,
    ) -> None:
        super().__init__()
        self.self_attn, self.mlp, self.cross_attn = self_attn, mlp, cross_attn
        self.is_local, self.of_sum = is_local, place == "after"
        starts = place != "after" and not is_entered_normal
        self.input_layernorm = norm() if starts else nn.Identity()
        self.post_attention_layernorm = norm() if place != "after" else nn.Identity()
        self.attention_norm = norm() if place != "before" else None  # of what attention gave
        self.mlp_norm = norm() if place != "before" else None
        self.dropout = nn.Dropout(dropout_prob)

    def start_small(self, num_layers: int) -> None:
        """Branches add up: each starts smaller, the more there are."""
        for branch in (self.self_attn.o_proj, self.mlp.down_proj):
            nn.init.normal_(branch.weight, std=(2 * num_layers * branch.in_features) ** -0.5)

    def forward(
        self,
        h: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        causal: bool,
        context: Context | None,
    ) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        query, key, value = self.self_attn.project(self.input_layernorm(h), rotation)
        mixed = self.self_attn.mix(query, key, value, mask, causal and mask is None)
        return self._rest(h, mixed, context)

    def advance(
        self,
        h: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        *,
        pair: tuple[Tensor, Tensor],
        places: Tensor,
        seen: Tensor,
        context: Context | None,
    ) -> Tensor:
        """(B, n, D) at `places` (B, n), seeing the keys of `pair` (B, K, room, E) that are `seen`
        (B, 1, n, M) -> (B, n, D)."""
        query, key, value = self.self_attn.project(self.input_layernorm(h), rotation)
        rows = torch.arange(len(h), device=h.device)[:, None]
        for buffer, new in zip(pair, (key, value), strict=True):
            buffer[rows, :, places] = new.transpose(1, 2).to(buffer.dtype)
        keys, values = (buffer[:, :, : seen.shape[-1]] for buffer in pair)
        return self._rest(h, self.self_attn.mix(query, keys, values, seen), context)

    def _rest(self, h: Tensor, mixed: Tensor, context: Context | None) -> Tensor:
        h = self._sum(h, mixed, self.attention_norm)
        if self.cross_attn is not None:
            assert context is not None, "this network was built to attend to a context: pass it"
            h = h + self.dropout(self.cross_attn(parts.normalise(h, -1), context))
        return self._sum(h, self.mlp(self.post_attention_layernorm(h)), self.mlp_norm)

    def _sum(self, h: Tensor, branch: Tensor, norm: nn.Module | None) -> Tensor:
        if norm is not None and not self.of_sum:
            branch = norm(branch)
        h = h + self.dropout(branch)
        return norm(h) if norm is not None and self.of_sum else h


class MaskedHead(nn.Module):
    """norm(act(w h)): what tells hidden tokens looks at, in place of h (Devlin et al. 2019)."""

    def __init__(self, dim: int, act: str, norm: nn.Module, bias: bool) -> None:
        super().__init__()
        self.dense, self.act, self.norm = bare(dim, dim, bias=bias), act, norm

    def forward(self, h: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.norm(ACTIVATIONS[self.act](self.dense(h)))
