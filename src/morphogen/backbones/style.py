r"""A style-based generator, and the convolutional critic that goes with it.

    w = f(z / |z|),                f an MLP: the mapping network
    h <- lrelu( d_o conv(s_i h_i) + n noise + b ),    s = 1 + A w,
    d_o = 1 / sqrt( sum_{i,k} (s_i W_oik)^2 ):        what is modulated is demodulated again

from a learned constant upwards, two such layers at each resolution (Karras et al. 2019, 2020:
StyleGAN and StyleGAN2). Each layer has a style of its own, so that of two latents one can decide
what is coarse and the other what is fine. Scaling inputs and outputs of a layer that all items
share gives the same as scaling its weights for each item, and is no slower than without.

Noise is drawn by who asks (`synthesise(styles, noise)`); otherwise it is the same for all, and an
item follows from its styles. Whatever is no way from a vector to a grid is built as by `conv`.

Legend: B batch, D width of a style, S styles of an item, C channels, *space the space axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.backbones._parts import (
    Upsample,
    VectorStem,
    coarser,
    conv,
    halving,
    like_space,
    linear,
    patch_factor,
    pyramid,
)
from morphogen.backbones.conv import MOST_POSITIONS, Conv
from morphogen.core.random import generator, randn
from morphogen.core.spec import TensorSpec

SLOPE = 0.2  # of the leaky rectifier below zero
GAIN = math.sqrt(2 / (1 + SLOPE**2))  # which keeps the variance


class Style(Conv):
    """A generator whose layers are steered by styles; a critic, or grid to grid, as `conv`."""

    def __init__(
        self,
        in_spec: TensorSpec,
        out_spec: TensorSpec,
        cond_dim: int = 0,
        causal: bool = False,
        *,
        model_dim: int = 32,  # width at the finest resolution; doubles at each halving, up to 4x
        num_levels: int | None = None,  # resolutions; none halves until the longer side is <= 8
        num_blocks: int = 1,  # residual blocks at each resolution, of what is built as `conv`
        patch_size: int | None = None,  # side of the blocks that the stem stacks; none: by size
        dropout_prob: float = 0.0,  # probability of dropping a hidden feature in training
        style_dim: int = 64,  # width of a style
        mapping_layers: int = 3,  # of the network from a latent to its style
    ) -> None:
        self.style_dim, self.mapping_layers = style_dim, mapping_layers
        self.num_styles = self.num_noise = 0
        super().__init__(
            in_spec, out_spec, cond_dim, causal, model_dim=model_dim, num_levels=num_levels,
            num_blocks=num_blocks, patch_size=patch_size, dropout_prob=dropout_prob,
        )  # fmt: skip

    def _decoder(
        self, in_spec: TensorSpec, out_spec: TensorSpec, num_levels: int | None, patch: int | None
    ) -> nn.ModuleList:
        """The generator: its parts by name, in a list as `Conv` has them."""
        factor = patch_factor(out_spec.space, patch, MOST_POSITIONS)
        spaces = pyramid(coarser(out_spec.space, factor), num_levels)
        last, dim = len(spaces) - 1, self.style_dim
        widths = [self._width(level) for level in range(len(spaces))]
        layers: list[Styled] = []
        for level in reversed(range(len(spaces))):
            before = widths[min(level + 1, last)]
            grow = None
            if level < last:
                grow = Upsample(before, before, halving(spaces[level]), spaces[level])
            layers += [
                Styled((before, widths[level]), dim, spaces[level], grow),
                Styled((widths[level], widths[level]), dim, spaces[level]),
            ]
        self.num_styles = len(layers)
        self.noise_sizes = [math.prod(layer.space) for layer in layers]
        self.num_noise = sum(self.noise_sizes)
        self.constant_noise: Tensor
        noise = randn((1, self.num_noise), generator(0))
        self.register_buffer("constant_noise", noise, persistent=False)
        constant = Constant(widths[last], spaces[last])
        head = self._head(out_spec, factor, self.model_dim)
        mapping = Mapping(in_spec, self.cond_dim, dim, self.mapping_layers)
        return nn.ModuleList([mapping, constant, *layers, head])

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """(B, *in), (B, cond_dim) -> (B, *out)."""
        if not self.num_styles:
            return super().forward(x, cond)
        return self.synthesise(self.styles(x, cond))

    def styles(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """Latents (B, *in) -> the style of every layer, the coarsest first: (B, S, D)."""
        return self.layers[0](z, cond)[:, None].expand(-1, self.num_styles, -1)

    def synthesise(self, styles: Tensor, noise: Tensor | None = None) -> Tensor:
        """Styles (B, S, D) and noise (B, num_noise), the same for all unless given -> (B, *out)."""
        _, constant, *layers, head = self.layers
        h = constant(len(styles))
        noise = self.constant_noise.expand(len(styles), -1) if noise is None else noise
        parts = torch.split(noise, self.noise_sizes, dim=1)
        for layer, style, own in zip(layers, styles.unbind(1), parts, strict=True):
            h = layer(h, style, own)
        image: Tensor = head(h)
        return image


class Mapping(nn.Module):
    """A latent, its length taken out, and what is said of the item -> a style."""

    def __init__(self, spec: TensorSpec, cond_dim: int, dim: int, num_layers: int) -> None:
        super().__init__()
        self.stem = VectorStem(spec, dim)
        self.said = linear(cond_dim, dim) if cond_dim else None
        layers = [linear(dim, dim, gain=GAIN) for _ in range(max(num_layers - 1, 0))]
        self.layers = nn.ModuleList(layers)

    def forward(self, z: Tensor, cond: Tensor | None) -> Tensor:
        """(B, *latent), (B, cond_dim) -> (B, D)."""
        if z.is_floating_point():
            z = z * z.flatten(1).square().mean(1).add(1e-8).rsqrt().view(-1, *(1,) * (z.dim() - 1))
        w: Tensor = self.stem(z)
        if self.said is not None:
            assert cond is not None, "this network was built with conditions: pass cond"
            w = (w + self.said(cond)) / math.sqrt(2)
        for layer in self.layers:
            w = layer(F.leaky_relu(w, SLOPE))
        return w


class Constant(nn.Module):
    """What every item begins from, learned."""

    def __init__(self, width: int, space: Sequence[int]) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(1, width, *space))

    def forward(self, num: int) -> Tensor:
        """(num, C, *space)."""
        return self.value.expand(num, *self.value.shape[1:])


class Styled(nn.Module):
    """One layer: a modulated convolution, demodulated, noise, an offset, a rectifier."""

    def __init__(
        self, dims: tuple[int, int], style_dim: int, space: Sequence[int],
        grow: Upsample | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        in_dim, out_dim = dims
        self.space, self.grow = tuple(space), grow
        self.affine = linear(style_dim, in_dim)
        self.mix = conv(len(self.space), in_dim, out_dim, 3)
        self.noise = nn.Parameter(torch.zeros(out_dim))

    def forward(self, h: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """(B, C, *coarse), (B, D), (B, positions) -> (B, C', *space)."""
        h = h if self.grow is None else self.grow(h)
        scale = 1 + self.affine(style)  # (B, C)
        mix: Any = self.mix
        weight: Tensor = mix.weight
        power = weight.square().flatten(2).sum(2)  # (C', C)
        demodulated = (scale.square() @ power.T + 1e-8).rsqrt()  # (B, C')
        # The offset of the convolution is added after demodulation: as in the equation.
        bias: Tensor = mix.bias
        plain: Tensor = mix._conv_forward(h * like_space(scale, h), weight, None)
        h = plain * like_space(demodulated, plain) + like_space(bias[None], plain)
        h = h + like_space(self.noise[None], h) * noise.reshape(len(h), 1, *self.space)
        return F.leaky_relu(h, SLOPE) * GAIN
