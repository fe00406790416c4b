"""A convolutional network: encoder, decoder, critic, generator, or grid to grid.

Resolutions halve on the way in and double on the way out. They are planned from the larger end, so
that any size, odd ones too, ends exactly. Residual blocks without normalisation (Fixup, Zhang et
al. 2019; R3GAN, Huang et al. 2024): no item's output depends on the rest of its batch.

Legend: B batch, C channels, D width at a level, *space the space axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from morphogen.backbones._parts import (
    HEAD_GAIN,
    ConvBlock,
    Downsample,
    GridStem,
    Upsample,
    VectorHead,
    VectorStem,
    coarser,
    halving,
    is_vector,
    patch_factor,
    pyramid,
    refuses_axes,
    refuses_output,
)
from morphogen.core.backbone import Backbone
from morphogen.core.spec import TensorSpec

# Positions above which the stem stacks blocks of 1 (400 = 20x20), then of 2 and more (48x48).
MOST_POSITIONS = (400, 2304)


class Conv(Backbone):
    """A residual convolutional network: grid to vector, vector to grid, or grid to grid."""

    def __init__(
        self,
        in_spec: TensorSpec,
        out_spec: TensorSpec,
        cond_dim: int = 0,
        causal: bool = False,
        *,
        model_dim: int = 32,  # width at the finest resolution; doubles at each halving, up to 4x
        num_levels: int | None = None,  # resolutions; none halves until the longer side is <= 8
        num_blocks: int = 1,  # residual blocks at each resolution
        patch_size: int | None = None,  # side of the blocks that the stem stacks; none: by size
        dropout_prob: float = 0.0,  # probability of dropping a hidden feature in training
    ) -> None:
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.model_dim, self.num_blocks, self.dropout_prob = model_dim, num_blocks, dropout_prob
        if is_vector(out_spec):
            self.layers = self._encoder(in_spec, out_spec, num_levels, patch_size)
        elif is_vector(in_spec):
            self.layers = self._decoder(in_spec, out_spec, num_levels, patch_size)
        else:
            self.layers = self._between(in_spec, out_spec, num_levels, patch_size)

    @classmethod
    def refuses(cls, in_spec: TensorSpec, out_spec: TensorSpec, causal: bool = False) -> str | None:
        """Vectors have nothing to convolve, and two grids must be some halvings apart."""
        if causal:
            return "convolutions here look both ways and cannot be causal: use transformer or rnn"
        if is_vector(in_spec) and is_vector(out_spec):
            return "neither side has space axes to convolve over: use mlp"
        if reason := refuses_output(out_spec) or refuses_axes(in_spec) or refuses_axes(out_spec):
            return reason
        if is_vector(in_spec) or is_vector(out_spec):
            return None
        if _halvings(in_spec.space, out_spec.space) is None:
            return f"the spaces {in_spec.space} and {out_spec.space} are not some halvings apart"
        return None

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """(B, *in), (B, cond_dim) -> (B, *out)."""
        for layer in self.layers:
            x = layer(x, cond) if isinstance(layer, ConvBlock) else layer(x)
        return x

    # -- plans: each returns the layers in order -------------------------------------------------

    def _width(self, level: int) -> int:
        return self.model_dim * min(2**level, 4)

    def _blocks(self, num_axes: int, level: int) -> list[nn.Module]:
        return [
            ConvBlock(num_axes, self._width(level), self.cond_dim, self.dropout_prob)
            for _ in range(self.num_blocks)
        ]

    def _down(self, spaces: Sequence[tuple[int, ...]]) -> list[nn.Module]:
        """Blocks at every resolution of `spaces`, fine to coarse, with the steps between."""
        layers = self._blocks(len(spaces[0]), 0)
        for level, space in enumerate(spaces[:-1]):
            layers.append(Downsample(self._width(level), self._width(level + 1), halving(space)))
            layers += self._blocks(len(space), level + 1)
        return layers

    def _up(self, spaces: Sequence[tuple[int, ...]]) -> list[nn.Module]:
        """The way back: coarse to fine."""
        layers = self._blocks(len(spaces[0]), len(spaces) - 1)
        for level in reversed(range(len(spaces) - 1)):
            wide, narrow, space = self._width(level + 1), self._width(level), spaces[level]
            layers.append(Upsample(wide, narrow, halving(space), space))
            layers += self._blocks(len(space), level)
        return layers

    def _encoder(
        self, in_spec: TensorSpec, out_spec: TensorSpec, num_levels: int | None, patch: int | None
    ) -> nn.ModuleList:
        factor = patch_factor(in_spec.space, patch, MOST_POSITIONS)
        spaces = pyramid(coarser(in_spec.space, factor), num_levels)
        features = self._width(len(spaces) - 1) * math.prod(spaces[-1])
        return nn.ModuleList(
            [
                GridStem(in_spec, self.model_dim, factor, kernel_size=3),
                *self._down(spaces),
                nn.Flatten(),
                VectorHead(features, out_spec),
            ]
        )

    def _decoder(
        self, in_spec: TensorSpec, out_spec: TensorSpec, num_levels: int | None, patch: int | None
    ) -> nn.ModuleList:
        factor = patch_factor(out_spec.space, patch, MOST_POSITIONS)
        spaces = pyramid(coarser(out_spec.space, factor), num_levels)
        width = self._width(len(spaces) - 1)
        return nn.ModuleList(
            [
                VectorStem(in_spec, width * math.prod(spaces[-1])),
                nn.Unflatten(1, (width, *spaces[-1])),
                *self._up(spaces),
                self._head(out_spec, factor, self.model_dim),
            ]
        )

    def _between(
        self, in_spec: TensorSpec, out_spec: TensorSpec, num_levels: int | None, patch: int | None
    ) -> nn.ModuleList:
        """Grid to grid: down or up to the other's space, or straight through at one resolution."""
        halvings = _halvings(in_spec.space, out_spec.space) or 0
        fine = in_spec.space if halvings >= 0 else out_spec.space
        factor = patch_factor(fine, patch, MOST_POSITIONS)
        spaces = pyramid(coarser(fine, factor), num_levels)
        one = (1,) * len(fine)
        if not halvings:  # as many blocks as there are on the way down and up again
            blocks = [b for _ in range(2 * len(spaces)) for b in self._blocks(len(fine), 0)]
            stem = GridStem(in_spec, self.model_dim, factor, kernel_size=3)
            return nn.ModuleList([stem, *blocks, self._head(out_spec, factor, self.model_dim)])
        # The blocks that the stem stacks stand for the first halvings.
        levels = pyramid(fine, abs(halvings) + 1)
        small_enough = [i for i, s in enumerate(levels) if math.prod(s) <= math.prod(spaces[0])]
        skipped = small_enough[0] if small_enough else abs(halvings)
        factor = one
        for space in levels[:skipped]:
            factor = tuple(f * h for f, h in zip(factor, halving(space), strict=True))
        levels, bottom = levels[skipped:], self._width(len(levels) - skipped - 1)
        if halvings > 0:
            stem = GridStem(in_spec, self.model_dim, factor, kernel_size=3)
            return nn.ModuleList([stem, *self._down(levels), self._head(out_spec, one, bottom)])
        stem = GridStem(in_spec, bottom, one, kernel_size=3)
        return nn.ModuleList(
            [stem, *self._up(levels), self._head(out_spec, factor, self.model_dim)]
        )

    def _head(self, out_spec: TensorSpec, factor: Sequence[int], width: int) -> nn.Module:
        return Upsample(
            width, out_spec.channels, factor, out_spec.space, kernel_size=3, gain=HEAD_GAIN
        )


def _halvings(start: Sequence[int], end: Sequence[int]) -> int | None:
    """How many halvings lead from `start` to `end`; negative for doublings, None for neither."""
    if len(start) != len(end):
        return None
    if tuple(end) in (down := pyramid(start, None, smallest=1)):
        return down.index(tuple(end))
    if tuple(start) in (up := pyramid(end, None, smallest=1)):
        return -up.index(tuple(start))
    return None
