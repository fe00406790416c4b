"""Attention, and what goes with it: rotary positions, heads, masks.

Legend: B batch, D model dimension, N positions, M those looked at, H heads, K heads of keys and
values, E head dimension.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from morphogen.backbones._parts import linear
from morphogen.backbones._sequence import RMSNorm, bare
from morphogen.core.attention import attend
from morphogen.core.conditioning import Context
from morphogen.core.errors import RecipeError
from morphogen.core.rotary import slowed


class Attention(nn.Module):
    """Multi-head attention with normalised queries and keys (Henry et al. 2020), and rotary
    positions where given (Su et al. 2021)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = linear(dim, 3 * dim)
        self.out = linear(dim, dim)
        self.query_norm = nn.LayerNorm(dim // num_heads, bias=False)
        self.key_norm = nn.LayerNorm(dim // num_heads, bias=False)

    def project(
        self, x: Tensor, rotation: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, D) -> queries, keys, values, each (B, H, N, D / H)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, H, D / H)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        query, key = self.query_norm(query), self.key_norm(key)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        return query, key, value

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor] | None = None,
        causal: bool = False,
        mask: Tensor | None = None,
    ) -> Tensor:
        """(B, N, D) -> (B, N, D). What is not real by the `mask` (B, N) is not looked at."""
        query, key, value = self.project(x, rotation)
        seen = None if mask is None else mask[:, None, None]  # (B, 1, 1, N)
        mixed = attend(query, key, value, seen, causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2))


class SelfAttention(nn.Module):
    """Attention whose H heads of queries share K heads of keys and values. Scores may be capped:
    c tanh(q k^T / (c sqrt(E)))."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        *,
        qk_norm: bool,
        eps: float,
        bias: str,
        softcap: float | None,
    ) -> None:
        super().__init__()
        self.head_dim, self.grouped = head_dim, num_kv_heads < num_heads
        self.softcap, on_inputs = softcap, bias != "none"
        self.q_proj = bare(dim, num_heads * head_dim, bias=on_inputs)
        self.k_proj = bare(dim, num_kv_heads * head_dim, bias=on_inputs)
        self.v_proj = bare(dim, num_kv_heads * head_dim, bias=on_inputs)
        self.o_proj = bare(num_heads * head_dim, dim, bias=bias == "all")
        self.q_norm = RMSNorm(head_dim, eps) if qk_norm else None
        self.k_norm = RMSNorm(head_dim, eps) if qk_norm else None

    def project(
        self, x: Tensor, rotation: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, D) -> queries (B, H, N, E), keys and values (B, K, N, E)."""
        query, key, value = (
            layer(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        return query, key, value

    def mix(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """(B, H, N, E), twice (B, K, M, E) -> (B, N, D)."""
        if self.softcap is not None:
            value = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
            mixed = self.looked_at(query, key, mask, causal) @ value
        else:
            mixed = attend(query, key, value, mask, causal=causal, grouped=self.grouped)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def looked_at(self, query: Tensor, key: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """The weights by which `mix` adds up values: (B, H, N, E), (B, K, M, E) -> (B, H, N, M)."""
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        scores = query @ key.mT / self.head_dim**0.5
        if self.softcap is not None:
            scores = self.softcap * (scores / self.softcap).tanh()
        if mask is None and causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(-1)


class CrossAttention(nn.Module):
    """Every position looks at a context: a branch to be added, zero at the start."""

    def __init__(self, dim: int, context_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = linear(dim, dim)
        self.key_value = linear(context_dim, 2 * dim)
        self.out = linear(dim, dim, gain=0.0)
        self.query_norm = nn.LayerNorm(dim // num_heads, bias=False)
        self.key_norm = nn.LayerNorm(dim // num_heads, bias=False)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """(B, N, D), and what there is to see -> (B, N, D)."""
        query = self.query_norm(self.query(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2))
        key, value = self.looked_for(context.sequence)
        mixed = attend(query, key, value, context.mask[:, None, None])
        return self.out(mixed.transpose(1, 2).flatten(2))

    def looked_for(self, sequence: Tensor) -> tuple[Tensor, Tensor]:
        """A context (B, M, D) -> its keys and values, each (B, H, M, E)."""
        pair = self.key_value(sequence).unflatten(-1, (2, self.num_heads, -1))
        key, value = pair.permute(2, 0, 3, 1, 4)
        return self.key_norm(key), value


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair of features (x_j, x_{j + half}) by its position's angle."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def rotary_angles(space: Sequence[int], head_dim: int, base: float | None = None) -> Tensor:
    """(N, head_dim / 2): the axes take turns over the pairs, each with geometric frequencies."""
    num_axes, pairs = len(space), head_dim // 2
    if base is None:  # the longest wavelength fits the longest axis
        base = 10_000.0 if num_axes == 1 else 100.0
    axes = torch.meshgrid(*(torch.arange(n).float() for n in space), indexing="ij")
    angles = torch.empty(math.prod(space), pairs)
    for j in range(pairs):
        frequency = base ** (-(j // num_axes) / max(pairs // num_axes, 1))
        angles[:, j] = axes[j % num_axes].flatten() * frequency
    return angles


class Rotary(nn.Module):
    """The angles of places in a row, as cosines and sines (length, E / 2).

    With `scaling`, some turn slower: see `core.rotary`.
    """

    def __init__(
        self, length: int, head_dim: int, base: float, scaling: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.head_dim, self.base, self.scaling = head_dim, base, scaling
        self.cos: Tensor
        self.sin: Tensor
        self.reach(length)

    def reach(self, length: int) -> None:
        """Have so many places."""
        angles = rotary_angles((length,), self.head_dim, self.base)
        if self.scaling is not None:
            angles = angles * slowed(self.head_dim, self.base, self.scaling)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, places: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Cosines and sines of places."""
        return self.cos[places], self.sin[places]


def check_heads(model_dim: int, num_heads: int | None, head_dim: int | None = None) -> int:
    """The number of heads: by default of 32 features each. Raises `RecipeError` when uneven, unless
    they have a size of their own."""
    if head_dim is not None:
        if head_dim % 2:
            raise RecipeError("features of a head come in pairs", found=f"head_dim {head_dim}")
        return max(1, model_dim // head_dim) if num_heads is None else num_heads
    if num_heads is None:
        num_heads = max(1, model_dim // 32)
        while model_dim % (2 * num_heads) and num_heads > 1:
            num_heads -= 1
    if model_dim % (2 * num_heads):
        raise RecipeError(
            "model_dim is to be shared out evenly among the heads, in pairs",
            found=f"model_dim {model_dim}, num_heads {num_heads}",
            expected="model_dim a multiple of 2 * num_heads",
        )
    return num_heads


def check_attention(
    num_heads: int,
    num_kv_heads: int,
    window: int | None,
    pattern: str,
    scaling: Sequence[float] | None,
) -> None:
    """Raise `RecipeError` for options that do not go together."""
    if num_heads % num_kv_heads:
        raise RecipeError(
            "heads share keys and values in groups of one size",
            found=f"{num_heads} heads, {num_kv_heads} of keys and values",
            expected="num_kv_heads a divisor of num_heads",
        )
    if window is not None and window < 1:
        raise RecipeError("a window holds the position itself", found=f"window = {window}")
    if not pattern or set(pattern) - set("lg"):
        raise RecipeError(
            "layers are local or global", found=f"pattern = {pattern!r}", expected="l, lg, gll .."
        )
    if scaling is not None and len(scaling) != 4:
        raise RecipeError(
            "rotary_scaling is four numbers", found=len(scaling), expected="s, low, high, L"
        )
