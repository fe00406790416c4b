r"""How one condition is read: in order, token by token or patch by patch, or its first alone.

    h = stem(x) + place;   h <- h + attention(h), h + mlp(h), twice;   sequence h, vector W mean(h)

`Reader` gives a sequence to attend to and a vector; `First` the vector alone, of what a frozen
model has read already. `core.conditioning` puts several conditions together.

Legend: B batch, C channels, D embedding dimension, N positions.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.core.attention import attend
from morphogen.core.errors import RecipeError
from morphogen.core.spec import TensorSpec

MOST_POSITIONS = 64  # of a condition, unless told otherwise: longer ones are read in patches
NUM_LAYERS = 2  # of self-attention over them, likewise
Stem = Literal["patches", "conv"]  # how a grid is seen: each patch alone, or over its borders


class Reader(nn.Module):
    """A sequence or grid in order: tokens, or patches, with their places, then self-attention."""

    def __init__(
        self,
        spec: TensorSpec,
        dim: int,
        num_layers: int = NUM_LAYERS,
        most_positions: int = MOST_POSITIONS,
        stem: Stem = "patches",
    ) -> None:
        super().__init__()
        self.spec = spec
        space = spec.space
        self.patch = patch_of(space, most_positions)
        self.grid = tuple(-(-size // p) for size, p in zip(space, self.patch, strict=True))
        width = spec.channels
        self.token: nn.Embedding | None = None
        if spec.kind == "token":
            width = dim if math.prod(self.patch) == 1 else -(-dim // 2)
            self.token = nn.Embedding(spec.vocab_size or 1, width)
        self.stem: nn.Module
        self.overlaps = stem == "conv" and is_grid(spec)
        if self.overlaps:
            self.stem = EarlyConvolutions(width, dim, self.patch)
        else:
            self.stem = nn.Linear(width * math.prod(self.patch), dim)
        self.place = nn.Parameter(start_of_places(self.grid, dim))
        self.layers = nn.ModuleList(ReaderLayer(dim) for _ in range(num_layers))
        self.pooled = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, *shape) -> the sequence (B, N, D), its mask (B, N), and the vector (B, D)."""
        real = self.spec.mask(x)
        if real is not None and self.patch == (1,):  # what is beyond the longest is not computed
            longest = int(real.any(0).sum())
            x, real = x[..., :longest], real[:, :longest]
        if self.token is not None:
            x = self.token(x).movedim(-1, 1)
        if real is not None:
            x = x * real[:, None]  # what follows the end is nothing, whatever stands there
        if self.overlaps:
            h = self.stem(x).flatten(2).transpose(1, 2)
        else:
            h = self.stem(patches(x, self.patch))
        h = h + self.place[: h.shape[1]]  # (B, N, D)
        mask = torch.ones(h.shape[:2], dtype=torch.bool, device=h.device)
        if real is not None:
            mask = patches(real[:, None].to(h), self.patch).amax(-1) > 0
        for layer in self.layers:
            h = layer(h, mask)
        h = F.layer_norm(h, h.shape[-1:])
        return h, mask, self.pooled(mean_of_real(h, mask))


class First(nn.Linear):
    """The first position of a sequence, linearly: (B, C, N) -> (B, D). Of what a frozen model has
    read it is the whole (`wrappers.encoder_codec`). Raises `RecipeError` for what is none."""

    def __init__(self, spec: TensorSpec, dim: int) -> None:
        if not begins_with_whole(spec):
            raise RecipeError(
                "only what a frozen model has read begins with a vector of the whole",
                found=str(spec), where="family.cond_pooled", hint="--condition NAME=ENCODER",
            )  # fmt: skip
        super().__init__(spec.channels, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, N) -> (B, D)."""
        return super().forward(x[:, :, 0])


class EarlyConvolutions(nn.Module):
    """(B, C, *space) -> (B, D, *ceil(space / patch)): convolutions that see over the borders of
    patches, each of which halves what is still to be halved (Xiao et al. 2021, early convolutions:
    a linear map of patches needs far more examples). Features are normalised at each position, so
    that what differs is as large as what says where it is."""

    def __init__(self, channels: int, dim: int, patch: tuple[int, ...]) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(patch) - 1]
        self.halvings, left, width = nn.ModuleList(), list(patch), channels
        while not self.halvings or max(left) > 1:
            stride = tuple(min(each, 2) for each in left)
            left = [max(each // 2, 1) for each in left]
            out = dim if max(left) == 1 else dim // 2
            layer = conv(width, out, 3, stride, padding=1)  # type: ignore[arg-type]
            nn.init.kaiming_normal_(layer.weight)
            self.halvings.append(layer)
            width = out
        self.mix = conv(dim, dim, 1)
        nn.init.normal_(self.mix.weight, std=dim**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *space) -> (B, D, *coarse)."""
        for layer in self.halvings:
            h = F.silu(layer(x)).movedim(1, -1)
            x = F.layer_norm(h, h.shape[-1:]).movedim(-1, 1)
        return self.mix(x)


def start_of_places(grid: tuple[int, ...], dim: int) -> Tensor:
    """What tells the places of a grid apart at first (N, D). Along a line, sines and cosines
    (Vaswani et al. 2017): near places are alike, and hold words of one meaning in a translation."""
    if len(grid) > 1:
        return torch.randn(math.prod(grid), dim) * 0.5
    angle = torch.arange(grid[0])[:, None] * 10_000.0 ** -(torch.arange(0, dim, 2) / dim)
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :dim] * 0.5**0.5


class ReaderLayer(nn.Module):
    """Self-attention over what is real, and two linear layers: pre-normalised, added."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_heads = next(n for n in range(max(dim // 32, 1), 0, -1) if dim % n == 0)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """(B, N, D), (B, N) -> (B, N, D)."""
        qkv = self.qkv(F.layer_norm(h, h.shape[-1:])).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, N, D / heads)
        mixed = attend(query, key, value, mask[:, None, None])
        h = h + self.out(mixed.transpose(1, 2).flatten(2))
        return h + self.mlp(F.layer_norm(h, h.shape[-1:]))


def mean_of_real(h: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over positions (B, N, D) -> (B, D), of those that are real by the mask (B, N)."""
    if mask is None:
        return h.mean(1)
    return (h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def is_grid(spec: TensorSpec) -> bool:
    """Whether a condition is a grid of numbers: a picture, a sound by bands of pitch."""
    return spec.kind == "real" and has_positions(spec) and len(spec.space) > 1


def has_positions(spec: TensorSpec) -> bool:
    """Whether a condition is a sequence or a grid, to be read in order and attended to."""
    return bool(spec.space) and spec.layout != "vector"


def begins_with_whole(spec: TensorSpec) -> bool:
    """Whether the first position of a condition may be a vector of all of it: of a sequence of
    numbers, such as a frozen model gives."""
    return has_positions(spec) and spec.kind == "real" and spec.layout == "sequence"


def patch_of(space: tuple[int, ...], most: int = MOST_POSITIONS) -> tuple[int, ...]:
    """The patch that leaves at most so many positions of a space: the longest axes are halved."""
    patch = [1] * len(space)
    while math.prod(-(-size // p) for size, p in zip(space, patch, strict=True)) > most:
        sizes = [size / p for size, p in zip(space, patch, strict=True)]
        patch[sizes.index(max(sizes))] *= 2
    return tuple(patch)


def patches(x: Tensor, patch: tuple[int, ...]) -> Tensor:
    """(B, C, *space) -> (B, N, C prod(patch)), padded with zeros at the end."""
    space = x.shape[2:]
    missing = [-size % p for size, p in zip(space, patch, strict=True)]
    x = F.pad(x, [n for size in reversed(missing) for n in (0, size)])
    split = [n for size, p in zip(x.shape[2:], patch, strict=True) for n in (size // p, p)]
    x = x.reshape(*x.shape[:2], *split)
    axes = range(len(space))
    order = [2 + 2 * a for a in axes] + [1] + [3 + 2 * a for a in axes]
    return x.permute(0, *order).flatten(1 + len(space)).flatten(1, len(space))
