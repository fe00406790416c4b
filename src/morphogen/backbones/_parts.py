"""Blocks that the backbones share; each is one code for 1, 2 and 3 space axes.

Activations lie channels-last in memory (the channels of one position side by side), which is what
CPU convolutions and matrix products want. There is no batch normalisation: an item's output depends
on that item alone, so that per-item losses, gradient penalties and data parallelism stay exact.

Legend: B batch, C channels, D model dimension, N positions, H heads, *space any space axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.core.spec import ProductSpec, Spec, TensorSpec

CONV: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}

# An output layer starts a tenth as large as the others: outputs near zero, gradients everywhere.
HEAD_GAIN = 0.1


def is_vector(spec: TensorSpec) -> bool:
    """Whether the item has no positions: a feature vector, a label, a row of a table."""
    return spec.layout == "vector" or not spec.space


def refuses_output(out_spec: Spec) -> str | None:
    """The reason that holds for every backbone: outputs are real."""
    outputs = out_spec.parts.values() if isinstance(out_spec, ProductSpec) else [out_spec]
    if all(each.kind == "real" for each in outputs):
        return None
    return f"outputs are real: ask for logits, spec.with_channels({out_spec.vocab_size})"


def refuses_axes(spec: TensorSpec) -> str | None:
    """The reason that holds for every convolution: 1, 2 or 3 space axes."""
    if is_vector(spec) or len(spec.space) in CONV:
        return None
    return f"convolutions run over 1, 2 or 3 space axes, and {spec} has {len(spec.space)}"


# -- layers ----------------------------------------------------------------------------------------


def linear(in_dim: int, out_dim: int, gain: float = 1.0) -> nn.Linear:
    """A linear layer that keeps the variance times gain^2; gain 0 starts it at zero."""
    layer = nn.Linear(in_dim, out_dim)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(in_dim))
    nn.init.zeros_(layer.bias)
    return layer


def conv(
    num_axes: int, in_dim: int, out_dim: int, kernel_size: int, gain: float = 1.0
) -> nn.Module:
    """A convolution over `num_axes` axes that keeps their sizes, and the variance times gain^2."""
    layer = CONV[num_axes](in_dim, out_dim, kernel_size, padding=kernel_size // 2)
    assert isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    nn.init.normal_(layer.weight, std=gain / math.sqrt(in_dim * kernel_size**num_axes))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class Modulation(nn.Module):
    """cond -> `num` vectors of D that scale and shift features; all zero at the start.

    Without conditions they are plain parameters: the gains and offsets of a normalisation layer.
    (FiLM, Perez et al. 2018; adaLN, Peebles & Xie 2023)
    """

    def __init__(self, cond_dim: int, dim: int, num: int = 2) -> None:
        super().__init__()
        self.num = num
        self.bias = nn.Parameter(torch.zeros(num * dim))
        self.weight = nn.Parameter(torch.zeros(num * dim, cond_dim)) if cond_dim else None

    def forward(self, cond: Tensor | None) -> tuple[Tensor, ...]:
        """(B, cond_dim) -> num times (B, D), or (1, D) without conditions."""
        if self.weight is None:
            return self.bias[None].chunk(self.num, dim=1)
        assert cond is not None, "this network was built with conditions: pass cond"
        return F.linear(F.silu(cond), self.weight, self.bias).chunk(self.num, dim=1)


class ConvBlock(nn.Module):
    """x + conv(silu(shift + (1 + scale) conv(x))); the second convolution starts at zero.

    With the branch at zero and no activation on the trunk, the signal keeps its size at any depth
    and no normalisation layer is needed (Fixup, Zhang et al. 2019). `norm` normalises each position
    over its channels before the first convolution, for networks trained with large steps.
    """

    def __init__(
        self,
        num_axes: int,
        dim: int,
        cond_dim: int,
        dropout_prob: float = 0.0,
        *,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.inner = conv(num_axes, dim, dim, 3)
        self.outer = conv(num_axes, dim, dim, 3, gain=0.0)
        self.modulation = Modulation(cond_dim, dim) if cond_dim else None
        self.dropout = nn.Dropout(dropout_prob)

    def forward(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """(B, D, *space), (B, cond_dim) -> (B, D, *space)."""
        h = self.inner(normalise(x) if self.norm else x)
        if self.modulation is not None:
            scale, shift = (like_space(m, h) for m in self.modulation(cond))
            h = torch.addcmul(shift, h, 1 + scale)
        return x + self.outer(self.dropout(F.silu(h)))


def normalise(x: Tensor, axis: int = 1) -> Tensor:
    """Layer normalisation along `axis` without parameters (Ba et al. 2016), apart at each position.

    One fused pass over channels-last memory; the same from elementary operations costs five.
    """
    return F.layer_norm(x.movedim(axis, -1), (x.shape[axis],), eps=1e-6).movedim(-1, axis)


# -- stems and heads -------------------------------------------------------------------------------


class VectorStem(nn.Module):
    """Any item -> (B, D): real values flattened, tokens embedded one by one, parts summed."""

    def __init__(self, spec: Spec, dim: int) -> None:
        super().__init__()
        self.names: tuple[str, ...] = ()
        if isinstance(spec, ProductSpec):
            # Each part keeps its variance, and so does their mean over the root of their number.
            self.names = tuple(spec.parts)
            self.parts = nn.ModuleList(VectorStem(part, dim) for _, part in spec)
            return
        self.embed, width = None, 1
        if spec.kind == "token":
            width = min(dim, 32)
            self.embed = nn.Embedding(spec.vocab_size or 1, width)
        self.project = linear(spec.num_values * width, dim)

    def forward(self, x: Any) -> Tensor:
        """(B, *shape), or parts by name, -> (B, D)."""
        if self.names:
            pairs = zip(self.names, self.parts, strict=True)
            total = torch.stack([stem(x[name]) for name, stem in pairs]).sum(0)
            return total / math.sqrt(len(self.names))
        x = x if self.embed is None else self.embed(x)
        return self.project(x.reshape(x.shape[0], -1))


class VectorHead(nn.Module):
    """(B, D) -> an item (B, *shape), or parts by name."""

    def __init__(self, dim: int, spec: Spec) -> None:
        super().__init__()
        self.parts: dict[str, tuple[int, ...]] = {}
        self.shape: tuple[int, ...] = ()
        if isinstance(spec, ProductSpec):
            self.parts = {name: part.shape for name, part in spec}
        else:
            self.shape = spec.shape
        shapes = self.parts.values() if self.parts else [self.shape]
        self.project = linear(dim, sum(map(math.prod, shapes)), gain=HEAD_GAIN)

    def forward(self, x: Tensor) -> Any:
        """(B, D) -> (B, *shape), or parts by name."""
        values = self.project(x)
        if not self.parts:
            return values.unflatten(1, self.shape)
        split = values.split([math.prod(shape) for shape in self.parts.values()], dim=1)
        return {
            name: value.reshape(value.shape[0], *shape)
            for (name, shape), value in zip(self.parts.items(), split, strict=True)
        }


class GridStem(nn.Module):
    """A grid or sequence -> (B, D, *coarse), tokens embedded."""

    def __init__(
        self, spec: TensorSpec, dim: int, factor: Sequence[int], kernel_size: int = 1
    ) -> None:
        super().__init__()
        self.spec, self.embed, channels = spec, None, spec.channels
        if spec.kind == "token":
            channels = dim
            self.embed = nn.Embedding(spec.vocab_size or 1, dim)
        self.down = Downsample(channels, dim, factor, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) -> (B, D, *coarse); padding is zero, as what lies beyond the border."""
        if self.embed is None:
            return self.down(x)
        mask, h = self.spec.mask(x), self.embed(x)  # (B, L), (B, *space, D)
        return self.down((h if mask is None else h * mask[..., None]).movedim(-1, 1))


class Downsample(nn.Module):
    """(B, C, *space) -> (B, D, *ceil(space / factor)): blocks of positions stacked, then mixed."""

    def __init__(
        self, in_dim: int, out_dim: int, factor: Sequence[int], kernel_size: int = 1
    ) -> None:
        super().__init__()
        self.factor = tuple(factor)
        self.mix = conv(len(factor), in_dim * math.prod(factor), out_dim, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *space) -> (B, D, *coarse)."""
        return self.mix(space_to_depth(x, self.factor))


class Upsample(nn.Module):
    """(B, C, *coarse) -> (B, D, *space): the reverse of `Downsample`, ending at exactly `space`."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        factor: Sequence[int],
        space: Sequence[int],
        *,
        kernel_size: int = 1,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.factor, self.space = tuple(factor), tuple(space)
        self.mix = conv(len(factor), in_dim, out_dim * math.prod(factor), kernel_size, gain)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *coarse) -> (B, D, *space)."""
        return crop(depth_to_space(self.mix(x), self.factor), self.space)


def space_to_depth(x: Tensor, factor: Sequence[int]) -> Tensor:
    """(B, C, *space) -> (B, prod(factor) C, *ceil(space / factor)), padded with zeros at the end.

    The result lies channels-last in memory, whatever the input.
    """
    space = x.shape[2:]
    missing = [-size % f for size, f in zip(space, factor, strict=True)]
    if any(missing):
        x = F.pad(x, [n for size in reversed(missing) for n in (0, size)])
    x = x.movedim(1, -1)  # (B, *space, C)
    if any(f > 1 for f in factor):
        axes, coarse = range(len(space)), coarser(space, factor)
        split = [n for pair in zip(coarse, factor, strict=True) for n in pair]
        x = x.reshape(x.shape[0], *split, x.shape[-1])
        order = [1 + 2 * a for a in axes] + [2 + 2 * a for a in axes]
        x = x.permute(0, *order, -1).reshape(x.shape[0], *coarse, -1)
    return x.contiguous().movedim(-1, 1)


def depth_to_space(x: Tensor, factor: Sequence[int]) -> Tensor:
    """Inverse of `space_to_depth` where nothing was padded."""
    if all(f == 1 for f in factor):
        return x
    coarse, axes = x.shape[2:], range(len(factor))
    x = x.movedim(1, -1).reshape(x.shape[0], *coarse, *factor, -1)
    order = [n for a in axes for n in (1 + a, 1 + len(factor) + a)]
    space = [n * f for n, f in zip(coarse, factor, strict=True)]
    return x.permute(0, *order, -1).reshape(x.shape[0], *space, -1).movedim(-1, 1)


def crop(x: Tensor, space: Sequence[int]) -> Tensor:
    """(B, C, *larger) -> (B, C, *space), cut at the end of each axis."""
    for axis, size in enumerate(space, start=2):
        x = x.narrow(axis, 0, min(size, x.shape[axis]))
    return x


def like_space(features: Tensor, x: Tensor) -> Tensor:
    """(B, D) -> (B, D, 1, ...), to be broadcast over the space axes of x."""
    return features.reshape(*features.shape, *(1,) * (x.dim() - 2))


# -- resolutions -----------------------------------------------------------------------------------


def coarser(space: Sequence[int], factor: Sequence[int]) -> tuple[int, ...]:
    """The space after downsampling by `factor`."""
    return tuple(-(-size // f) for size, f in zip(space, factor, strict=True))


def halving(space: Sequence[int]) -> tuple[int, ...]:
    """2 for the longer axes, 1 for those at most half the longest: axes become alike."""
    longest = max(space)
    return tuple(2 if size > 1 and 2 * size > longest else 1 for size in space)


def pyramid(
    space: Sequence[int], num_levels: int | None, smallest: int = 8
) -> list[tuple[int, ...]]:
    """Resolutions from `space` down: `num_levels`, or until no axis is longer than `smallest`."""
    levels = [tuple(space)]
    while max(levels[-1]) > 1 and (
        max(levels[-1]) > smallest if num_levels is None else len(levels) < num_levels
    ):
        levels.append(coarser(levels[-1], halving(levels[-1])))
    return levels


def patch_factor(
    space: Sequence[int], patch_size: int | None, most: Sequence[int]
) -> tuple[int, ...]:
    """The block of positions that a stem stacks: `patch_size`, or chosen by size.

    most[i] is the number of positions above which patches of 2^i are doubled; the last repeats.
    """
    if patch_size is not None:
        return tuple(min(patch_size, size) for size in space)
    factor, current, doublings = (1,) * len(space), tuple(space), 0
    while math.prod(current) > most[min(doublings, len(most) - 1)]:
        factor = tuple(f * h for f, h in zip(factor, halving(current), strict=True))
        current, doublings = coarser(space, factor), doublings + 1
    return factor
