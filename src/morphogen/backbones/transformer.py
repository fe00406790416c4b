"""A transformer over patches of a grid, tokens of a sequence, or both ways with a vector.

    h <- h + g_1 attention(m_1(norm h)),   h <- h + g_2 swiglu(m_2(norm h)),
    m_k(u) = (1 + scale_k) u + shift_k

with g, scale and shift linear in the condition and zero at the start (adaLN-zero: DiT, Peebles &
Xie 2023), normalised queries and keys (Henry et al. 2020), rotary positions on every axis (Su et
al. 2021) beside learned ones, and SwiGLU (Shazeer 2020).

A causal network reads positions in raster order: output i depends on inputs at positions <= i.

Legend: B batch, C channels, N positions, D model dimension, H heads, *space the space axes.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from morphogen.backbones._attention import (
    Attention,
    CrossAttention,
    check_heads,
    rotary_angles,
)
from morphogen.backbones._parts import (
    HEAD_GAIN,
    Modulation,
    VectorHead,
    VectorStem,
    coarser,
    crop,
    depth_to_space,
    is_vector,
    linear,
    normalise,
    patch_factor,
    refuses_output,
    space_to_depth,
)
from morphogen.core.attention import attend
from morphogen.core.backbone import Backbone
from morphogen.core.condition_readers import mean_of_real
from morphogen.core.conditioning import Context
from morphogen.core.spec import TensorSpec

# Positions above which patches of 1, 2, then 4 and more are doubled: attention is quadratic.
MOST_POSITIONS = (64, 64, 1024)
# The width by default, and that above so many positions: 20 items of 784 take 1.0 s a step
# where they take 3.7 s at the full width, and in minutes on a CPU steps are worth more.
WIDTH, MANY, WIDTH_OF_MANY = 192, 256, 96


class Transformer(Backbone):
    """A pre-norm transformer: grid to grid (DiT), to vector, from vector, or a causal sequence."""

    attends = True
    recomputes = True

    def __init__(
        self,
        in_spec: TensorSpec,
        out_spec: TensorSpec,
        cond_dim: int = 0,
        causal: bool = False,
        context_dim: int = 0,
        *,
        model_dim: int | None = None,  # width of the residual stream; none chooses by length
        num_layers: int = 4,  # blocks, each of attention and a SwiGLU layer
        num_heads: int | None = None,  # attention heads; none gives heads of 32 features
        patch_size: int | None = None,  # side of the patches of a grid; none chooses by size
        dropout_prob: float = 0.0,  # probability of dropping a branch's feature in training
    ) -> None:
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.context_dim = context_dim
        self.from_vector, self.to_vector = is_vector(in_spec), is_vector(out_spec)
        self.in_factor, self.out_factor, self.grid = _plan(in_spec, out_spec, causal, patch_size)
        num_positions = math.prod(self.grid)
        if model_dim is None:
            model_dim = WIDTH if num_positions <= MANY else WIDTH_OF_MANY
        num_heads = check_heads(model_dim, num_heads)

        self.stem: nn.Module
        if self.from_vector:
            self.stem = VectorStem(in_spec, model_dim)
            cond_dim += model_dim  # the vector also modulates every block
        elif in_spec.kind == "token":
            self.stem = nn.Embedding(in_spec.vocab_size or 1, model_dim)
        else:
            self.stem = linear(in_spec.channels * math.prod(self.in_factor), model_dim)
        scale = 0.02 if in_spec.kind == "token" and not self.from_vector else 0.5
        self.position = nn.Parameter(torch.randn(num_positions, model_dim) * scale)
        angles = rotary_angles(self.grid, model_dim // num_heads)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

        self.midway_dim = 0 if self.to_vector else model_dim
        self.blocks = nn.ModuleList(
            Block(model_dim, num_heads, cond_dim, dropout_prob, context_dim)
            for _ in range(num_layers)
        )
        self.modulation = Modulation(cond_dim, model_dim)
        self.head: nn.Module
        if self.to_vector:
            self.head = VectorHead(model_dim, out_spec)
        else:
            denoises = in_spec.kind == "real" and not (causal or self.from_vector)
            width = out_spec.channels * math.prod(self.out_factor)
            self.head = linear(model_dim, width, gain=0.0 if denoises else HEAD_GAIN)

    @classmethod
    def refuses(cls, in_spec: TensorSpec, out_spec: TensorSpec, causal: bool = False) -> str | None:
        """Attention needs positions; two grids must have the same number of patches."""
        from_vector, to_vector = is_vector(in_spec), is_vector(out_spec)
        if from_vector and to_vector:
            return "neither side has positions to attend to: use mlp"
        if reason := refuses_output(out_spec):
            return reason
        if causal and (from_vector or to_vector or in_spec.space != out_spec.space):
            return "a causal network maps positions to the same positions"
        if from_vector or to_vector or in_spec.space == out_spec.space:
            return None
        if in_spec.kind == "token" or _ratio(in_spec.space, out_spec.space) is None:
            return f"the spaces {in_spec.space} and {out_spec.space} do not share patches"
        return None

    def forward(
        self,
        x: Tensor,
        cond: Tensor | None = None,
        context: Context | None = None,
        midway: bool = False,
    ) -> Any:
        """(B, *in), (B, cond_dim) -> (B, *out). A causal network also takes shorter sequences.

        With `midway`, a pair: that, and what half of the blocks make of patches (B, D, *grid).
        """
        h, cond = self._tokens(x, cond)  # (B, N, D)
        half = h
        mask = None if self.from_vector else self.in_spec.mask(x)
        rotation = self.cos[: h.shape[1]], self.sin[: h.shape[1]]
        # Gradient penalties differentiate twice with respect to the input of a critic, which only
        # the plain form of attention allows, and which nothing is computed again for.
        penalised = self.to_vector and x.requires_grad and torch.is_grad_enabled()
        with sdpa_kernel(SDPBackend.MATH) if penalised else contextlib.nullcontext():
            for number, block in enumerate(self.blocks, start=1):
                run = block if penalised else partial(self.through, block)
                h = run(h, cond, rotation, self.causal, mask=mask, context=context)
                half = h if number == (len(self.blocks) + 1) // 2 else half
        h = self._normalised(h, cond)
        if self.to_vector:
            return self.head(mean_of_real(h, mask))
        out = crop(depth_to_space(self._placed(self.head(h)), self.out_factor), self.out_spec.space)
        return (out, self._placed(half)) if midway else out

    def _placed(self, h: Tensor) -> Tensor:
        """Positions (B, N, D) as the grid that they are of, (B, D, *grid)."""
        grid = (h.shape[1],) if len(self.grid) == 1 else self.grid
        return h.movedim(1, -1).reshape(len(h), -1, *grid)

    @torch.no_grad()
    def step(
        self,
        token: Tensor,
        cond: Tensor | None = None,
        state: Any = None,
        context: Context | None = None,
    ) -> tuple[Tensor, Any]:
        """token (B,), or (B, C) real, at the next position -> output (B, C) there, new state.

        The keys and values seen so far are written in place: pass on the newest state only.
        """
        assert self.causal, "only a causal network can step"
        state = Cache() if state is None else state
        i = state.length
        if i >= len(self.position):
            raise IndexError(f"the network has {len(self.position)} positions, and all are taken")
        h = (self.stem(token) + self.position[i])[:, None]  # (B, 1, D)
        rotation = self.cos[i : i + 1], self.sin[i : i + 1]
        for n, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            cache = state.of_block(n, h, block, len(self.position))
            h = block.step(h, cond, rotation, cache, i, context=context)
        h = self._normalised(h, cond)
        return self.head(h[:, 0]), Cache(i + 1, state.blocks)

    def _tokens(self, x: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, *in) -> (B, N, D), and what modulates the blocks."""
        if self.from_vector:
            vector = self.stem(x)  # (B, D)
            both = vector if cond is None else torch.cat([cond, vector], dim=1)
            return vector[:, None] + self.position, both
        if self.in_spec.kind == "token":
            h = self.stem(x.flatten(1))
        else:
            h = self.stem(space_to_depth(x, self.in_factor).flatten(2).transpose(1, 2))
        return h + self.position[: h.shape[1]], cond

    def _normalised(self, h: Tensor, cond: Tensor | None) -> Tensor:
        scale, shift = self.modulation(cond)
        return modulate(normalise(h, -1), scale, shift)


class Block(nn.Module):
    """Attention and a SwiGLU layer, each modulated, gated and added; between them, where there is
    a context, attention to it."""

    def __init__(
        self, dim: int, num_heads: int, cond_dim: int, dropout_prob: float, context_dim: int = 0
    ) -> None:
        super().__init__()
        hidden = -(-dim * 8 // 24) * 8  # 8/3 D in eights: as many weights as a plain layer of 4 D
        self.attention = Attention(dim, num_heads)
        self.inner = linear(dim, 2 * hidden)
        self.outer = linear(hidden, dim)
        self.modulation = Modulation(cond_dim, dim, num=6)
        self.dropout = nn.Dropout(dropout_prob)
        self.cross = CrossAttention(dim, context_dim, num_heads) if context_dim else None

    def forward(
        self,
        h: Tensor,
        cond: Tensor | None,
        rotation: tuple[Tensor, Tensor],
        causal: bool,
        *,
        mask: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        scale, shift, gate, *rest = self.modulation(cond)
        mixed = self.attention(modulate(normalise(h, -1), scale, shift), rotation, causal, mask)
        h = torch.addcmul(h, gate[:, None], self.dropout(mixed))
        return self._feed_forward(self._look(h, context), *rest)

    def step(
        self,
        h: Tensor,
        cond: Tensor | None,
        rotation: tuple[Tensor, Tensor],
        cache: tuple[Tensor, Tensor],
        i: int,
        *,
        context: Context | None = None,
    ) -> Tensor:
        """(B, 1, D) at position i -> (B, 1, D), with the keys and values of those before."""
        scale, shift, gate, *rest = self.modulation(cond)
        query, key, value = self.attention.project(
            modulate(normalise(h, -1), scale, shift), rotation
        )
        keys, values = cache  # (B, H, N, D / H)
        keys[:, :, i : i + 1], values[:, :, i : i + 1] = key, value
        mixed = attend(query, keys[:, :, : i + 1], values[:, :, : i + 1])
        h = torch.addcmul(h, gate[:, None], self.attention.out(mixed.transpose(1, 2).flatten(2)))
        return self._feed_forward(self._look(h, context), *rest)

    def _look(self, h: Tensor, context: Context | None) -> Tensor:
        if self.cross is None:
            return h
        assert context is not None, "this network was built to attend to a context: pass it"
        return h + self.dropout(self.cross(normalise(h, -1), context))

    def _feed_forward(self, h: Tensor, scale: Tensor, shift: Tensor, gate: Tensor) -> Tensor:
        value, switch = self.inner(modulate(normalise(h, -1), scale, shift)).chunk(2, dim=-1)
        return torch.addcmul(h, gate[:, None], self.dropout(self.outer(F.silu(switch) * value)))


@dataclass
class Cache:
    """The keys and values of the positions seen so far, block by block."""

    length: int = 0
    blocks: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def of_block(
        self, n: int, h: Tensor, block: Block, num_positions: int
    ) -> tuple[Tensor, Tensor]:
        """The buffers of block n, made at the first position."""
        if n == len(self.blocks):
            heads = block.attention.num_heads
            shape = (len(h), heads, num_positions, h.shape[-1] // heads)
            self.blocks.append((h.new_empty(shape), h.new_empty(shape)))
        return self.blocks[n]


def modulate(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """(B, N, D), (B, D), (B, D) -> (1 + scale) h + shift."""
    return torch.addcmul(shift[:, None], h, 1 + scale[:, None])


def _plan(
    in_spec: TensorSpec, out_spec: TensorSpec, causal: bool, patch_size: int | None
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The patches of the input and of the output, and the grid of positions they share."""
    spec = out_spec if is_vector(in_spec) else in_spec
    one = (1,) * len(spec.space)
    if not (is_vector(in_spec) or is_vector(out_spec)) and in_spec.space != out_spec.space:
        ratio = _ratio(in_spec.space, out_spec.space) or one
        shrinks = math.prod(in_spec.space) > math.prod(out_spec.space)
        return (ratio, one, out_spec.space) if shrinks else (one, ratio, in_spec.space)
    factor = one
    if not causal and spec.kind == "real":
        most = (MOST_POSITIONS[-1],) if spec.layout == "sequence" else MOST_POSITIONS
        factor = patch_factor(spec.space, patch_size, most)
    return factor, factor, coarser(spec.space, factor)


def _ratio(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...] | None:
    """The patch of the larger space at each position of the smaller; None where there is none."""
    large, small = (first, second) if math.prod(first) > math.prod(second) else (second, first)
    if len(large) != len(small):
        return None
    ratio = tuple(-(-a // b) for a, b in zip(large, small, strict=True))
    return ratio if coarser(large, ratio) == small else None
