"""A U-Net from a grid to a grid of the same space, shaped for the CPU.

    h_0 = stem(x);  h_{l+1} = down(blocks(h_l));  h_L <- blocks(h_L);
    h_l <- blocks(merge(h_l, up(h_{l+1})));  out = head(h_0)

The stem stacks pixels in blocks, so that no convolution runs at full resolution, where elementwise
operations are bound by memory. The one normalisation is over the channels of each position,
without parameters; attention, where asked for, mixes the coarsest resolution; the output starts at
zero.

Ronneberger et al. 2015 (U-Net), Ho et al. 2020 (as a denoiser), Hoogeboom et al. 2023 (simple
diffusion: stacked input, most of the work at low resolution).

Legend: B batch, C channels, D width at a level, N positions, *space the space axes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from morphogen.backbones._attention import Attention, CrossAttention, check_heads
from morphogen.backbones._parts import (
    ConvBlock,
    Downsample,
    GridStem,
    Upsample,
    coarser,
    conv,
    halving,
    is_vector,
    normalise,
    patch_factor,
    pyramid,
    refuses_axes,
    refuses_output,
)
from morphogen.core.backbone import Backbone
from morphogen.core.conditioning import Context
from morphogen.core.spec import TensorSpec

# Positions above which the stem stacks blocks of 1 (400 = 20x20), then of 2 and more (48x48).
MOST_POSITIONS = (400, 2304)


class UNet(Backbone):
    """A U-Net: grid to grid of the same space, for denoising."""

    attends = True

    def __init__(
        self,
        in_spec: TensorSpec,
        out_spec: TensorSpec,
        cond_dim: int = 0,
        causal: bool = False,
        context_dim: int = 0,
        *,
        model_dim: int = 32,  # width at the finest resolution
        widening: int = 3,  # how much wider each halving makes it, up to 6 times in all
        num_levels: int | None = None,  # resolutions; none halves until the longer side is <= 8
        num_blocks: int = 1,  # residual blocks at each resolution, each way
        num_mid_blocks: int = 2,  # residual blocks at the coarsest resolution
        attention_every: int = 0,  # self-attention after every so many of those; 0 for none
        patch_size: int | None = None,  # side of the blocks that the stem stacks; none: by size
        dropout_prob: float = 0.0,  # probability of dropping a hidden feature in training
    ) -> None:
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.context_dim = context_dim
        axes = len(in_spec.space)
        factor = patch_factor(in_spec.space, patch_size, MOST_POSITIONS)
        spaces = pyramid(coarser(in_spec.space, factor), num_levels)
        widths = [model_dim * min(widening**level, 6) for level in range(len(spaces))]

        def blocks(width: int, num: int) -> list[ConvBlock]:
            return [ConvBlock(axes, width, cond_dim, dropout_prob, norm=True) for _ in range(num)]

        self.stem = GridStem(in_spec, model_dim, factor, kernel_size=3)
        self.before, self.down = nn.ModuleList(), nn.ModuleList()
        self.up, self.merge, self.after = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for width, wider, space in zip(widths, widths[1:], spaces, strict=False):
            self.before.append(nn.ModuleList(blocks(width, num_blocks)))
            self.down.append(Downsample(width, wider, halving(space)))
            self.up.append(Upsample(wider, width, halving(space), space))
            self.merge.append(conv(axes, 2 * width, width, 1))
            after: list[nn.Module] = [*blocks(width, num_blocks)]
            # The context is looked at where positions are few: at the two coarsest resolutions, but
            # never at the finest, where it costs most and what it says is too coarse.
            if context_dim and space == spaces[-2] and len(spaces) > 2:
                after.append(ContextMixing(width, context_dim))
            self.after.append(nn.ModuleList(after))
        self.mid, self.midway_dim = nn.ModuleList(), widths[-1]
        for i, block in enumerate(blocks(widths[-1], num_mid_blocks), start=1):
            self.mid.append(block)
            if context_dim:
                self.mid.append(ContextMixing(widths[-1], context_dim))
            if attention_every and i % attention_every == 0:
                self.mid.append(GlobalMixing(widths[-1]))
        self.head = Upsample(
            model_dim, out_spec.channels, factor, out_spec.space, kernel_size=3, gain=0.0
        )

    @classmethod
    def refuses(cls, in_spec: TensorSpec, out_spec: TensorSpec, causal: bool = False) -> str | None:
        """Skip connections join equal spaces, of 1, 2 or 3 axes."""
        if causal:
            return "a U-Net sees all positions at once and cannot be causal: use transformer or rnn"
        if is_vector(in_spec) or is_vector(out_spec):
            return "a U-Net maps a grid to a grid, and a vector is none: use conv or mlp"
        if in_spec.space != out_spec.space:
            return f"skip connections need one space: {in_spec.space} is not {out_spec.space}"
        return refuses_output(out_spec) or refuses_axes(in_spec)

    def forward(
        self,
        x: Tensor,
        cond: Tensor | None = None,
        context: Context | None = None,
        midway: bool = False,
    ) -> Any:
        """(B, *in), (B, cond_dim) -> (B, *out); with `midway`, a pair: that, and the features at
        the coarsest resolution (B, D, *coarse)."""
        h, skips = self.stem(x), []
        for before, down in zip(self.before, self.down, strict=True):
            h = through(before, h, cond, context)
            skips.append(h)
            h = down(h)
        h = half = through(self.mid, h, cond, context)
        for i in reversed(range(len(skips))):
            h = self.merge[i](torch.cat([skips[i], self.up[i](h)], dim=1))
            h = through(self.after[i], h, cond, context)
        out = self.head(normalise(h))
        return (out, half) if midway else out


def through(
    blocks: nn.Module, h: Tensor, cond: Tensor | None, context: Context | None = None
) -> Tensor:
    """Apply blocks in order."""
    for block in blocks.children():
        h = block(h, context) if isinstance(block, ContextMixing) else block(h, cond)
    return h


class GlobalMixing(nn.Module):
    """x + attention(norm(x)) over all positions; starts as the identity."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention = Attention(dim, check_heads(dim, None))
        nn.init.zeros_(self.attention.out.weight)

    def forward(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """(B, D, *space) -> (B, D, *space)."""
        h = x.flatten(2).transpose(1, 2)  # (B, N, D)
        h = self.attention(normalise(h, -1))
        return x + h.transpose(1, 2).unflatten(2, x.shape[2:])


class ContextMixing(nn.Module):
    """x + attention(norm(x), context); starts as the identity."""

    def __init__(self, dim: int, context_dim: int) -> None:
        super().__init__()
        self.attention = CrossAttention(dim, context_dim, check_heads(dim, None))

    def forward(self, x: Tensor, context: Context | None) -> Tensor:
        """(B, D, *space) -> (B, D, *space)."""
        assert context is not None, "this network was built to attend to a context: pass it"
        h = x.flatten(2).transpose(1, 2)  # (B, N, D)
        h = self.attention(normalise(h, -1), context)
        return x + h.transpose(1, 2).unflatten(2, x.shape[2:])
