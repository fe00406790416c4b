r"""Named conditions to a vector and a sequence: every family takes them in the same way.

A condition is described by the `TensorSpec` of the codec that reads it. One without positions (a
class, a number, an embedding) is embedded as a vector. One with positions (a caption, a picture) is
read in order: tokens or patches with what is known of their place, through two layers of
self-attention, whose outputs are a sequence to attend to and whose mean is a vector. So

    vector    sum over names of v_name(value)                       (B, D), modulates every block
    context   [none, h_1 .. h_N] of every name that has positions   (B, N, D) and its mask

where `none`, learned, takes the place of a vector that is absent, and is all that is left to see of
an absent sequence. Dropping conditions at random in training is what makes guidance possible (Ho &
Salimans 2022, classifier-free guidance).

An absent condition is left out of `cond` where no item has it, else -1 for tokens and NaN for
numbers, see `present`.

Legend: B batch, D embedding dimension, N positions.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.core.attention import attend
from morphogen.core.errors import RecipeError, RefusedPair, did_you_mean
from morphogen.core.random import rand
from morphogen.core.spec import TensorSpec

MOST_POSITIONS = 64  # of a condition, unless told otherwise: longer ones are read in patches
NUM_LAYERS = 2  # of self-attention over them, likewise
Stem = Literal["patches", "conv"]  # how a grid is seen: each patch alone, or over its borders


@dataclass(frozen=True)
class Context:
    """What a network may attend to: a sequence, and which of its positions there are."""

    sequence: Tensor  # (B, N, D)
    mask: Tensor  # (B, N) bool, at least one of each item


Embedded = tuple[Tensor | None, Context | None]  # what modulates a network, what it attends to


class Once(dict[str, Tensor]):
    """Conditions with what a conditioner made of them, for all steps of one sampling."""

    def __init__(
        self, cond: Mapping[str, Tensor], by: Conditioner, both: tuple[Tensor, Context | None]
    ) -> None:
        super().__init__(cond)
        self.by, self.both = by, both


def one_of(embedded: Embedded, item: int) -> Embedded:
    """What one item of several has."""
    (vector, context), own = embedded, slice(item, item + 1)
    return (
        None if vector is None else vector[own],
        None if context is None else Context(context.sequence[own], context.mask[own]),
    )


class Conditioner(nn.Module):
    """Embeds named conditions: a sum of vectors, and a sequence of those that have positions."""

    def __init__(
        self,
        conditions: Mapping[str, TensorSpec],
        dim: int,
        num_layers: int = NUM_LAYERS,
        most_positions: int = MOST_POSITIONS,
        stem: Stem = "patches",
    ) -> None:
        super().__init__()
        self.conditions, self.dim = dict(conditions), dim
        self.zero: Tensor
        self.register_buffer("zero", torch.zeros(dim), persistent=False)
        self.embed = nn.ModuleDict()
        self.none = nn.ParameterDict()
        for name, spec in self.conditions.items():
            if has_positions(spec):
                self.embed[name] = Reader(spec, dim, num_layers, most_positions, stem)
            elif spec.kind == "token":
                self.embed[name] = nn.Embedding(spec.vocab_size or 1, dim)
            else:
                self.embed[name] = nn.Linear(spec.num_values, dim)
            self.none[name] = nn.Parameter(torch.zeros(dim))

    def forward(
        self,
        cond: Mapping[str, Tensor] | None,
        batch_size: int,
        drop_prob: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """cond, each (B, ...) -> (B, D). Drops each item's conditions with `drop_prob`."""
        return self.both(cond, batch_size, drop_prob, generator)[0]

    def both(
        self,
        cond: Mapping[str, Tensor] | None,
        batch_size: int,
        drop_prob: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Context | None]:
        """cond, each (B, ...) -> the vector (B, D), and the context where a condition has
        positions. An item's conditions are dropped together, with `drop_prob`."""
        if isinstance(cond, Once) and cond.by is self and not drop_prob:
            return cond.both
        check_conditions(cond, self.conditions)
        total = self.zero.expand(batch_size, -1)
        keep = None
        if drop_prob > 0 and generator is not None and self.conditions:
            keep = (rand((batch_size, 1), generator) >= drop_prob).to(total.device)
        parts: list[Context] = []
        for name, spec in self.conditions.items():
            none = self.none[name].expand(batch_size, -1)
            value = None if cond is None else cond.get(name)
            if value is None:
                total = total + none
                if has_positions(spec):
                    parts.append(sink(none))
                continue
            there = present(value, spec)
            seen = there if keep is None else there & keep[:, 0]
            value = value.masked_fill(~wide(there, value), 0)
            if has_positions(spec):
                sequence, mask, embedded = self.embed[name](value)
                parts += [sink(none), Context(sequence, mask & seen[:, None])]
            else:
                embedded = self.embed[name](value if spec.kind == "token" else value.flatten(1))
            total = total + torch.where(seen[:, None], embedded, none)
        if not parts:
            return total, None
        return total, Context(
            torch.cat([part.sequence for part in parts], dim=1),
            torch.cat([part.mask for part in parts], dim=1),
        )

    def once(
        self, cond: Mapping[str, Tensor] | None, batch_size: int
    ) -> Mapping[str, Tensor] | None:
        """`cond`, embedded now: as long as the weights stay, `both` of it costs nothing."""
        return Once(cond, self, self.both(cond, batch_size)) if cond else cond

    def embedded(
        self,
        cond: Mapping[str, Tensor] | None,
        batch_size: int,
        drop_prob: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Embedded:
        """`both`, for a network that was built without conditions where there are none: None for
        the vector then."""
        vector, context = self.both(cond, batch_size, drop_prob, generator)
        return vector if self.conditions else None, context


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


def context_dim(conditions: Mapping[str, TensorSpec], dim: int) -> int:
    """How wide the context of such conditions is: `dim`, or 0 where none has positions."""
    return dim if any(map(has_positions, conditions.values())) else 0


def present(value: Tensor, spec: TensorSpec) -> Tensor:
    """Which items (B, *shape) have the condition, (B,) bool: -1 and NaN stand for none."""
    rows = value.reshape(value.shape[0], -1)
    return (rows >= 0).all(1) if spec.kind == "token" else ~rows.isnan().any(1)


def absent(spec: TensorSpec) -> Tensor:
    """The value (*shape) that stands for no condition."""
    if spec.kind == "token":
        return torch.full(spec.shape, -1)
    return torch.full(spec.shape, math.nan)


def kept(
    cond: Mapping[str, Tensor], keep: Tensor, specs: Mapping[str, TensorSpec]
) -> dict[str, Tensor]:
    """Conditions of items, all of them absent where `keep` (B,) is False."""
    left = {}
    for name, value in cond.items():
        there = wide(keep.to(value.device), value)
        left[name] = torch.where(there, value, absent(specs[name]).to(value))
    return left


def sink(none: Tensor) -> Context:
    """The learned "none" (B, D) as the one position that can always be attended to."""
    return Context(none[:, None], none.new_ones(len(none), 1, dtype=torch.bool))


def wide(per_item: Tensor, x: Tensor) -> Tensor:
    """(B,) -> broadcastable against x (B, ...)."""
    return per_item.reshape(-1, *(1,) * (x.dim() - 1))


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


class TimeEmbedding(nn.Module):
    """t in [0, 1] -> (B, D): sines and cosines of geometric frequencies, then two linear layers."""

    def __init__(self, dim: int, *, max_frequency: float = 1000.0) -> None:
        super().__init__()
        half = dim // 2
        ladder = torch.arange(half) / max(half - 1, 1)
        self.frequency: Tensor
        self.register_buffer("frequency", torch.exp(ladder * math.log(max_frequency)))
        self.mlp = nn.Sequential(nn.Linear(2 * half, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """(B,) -> (B, D)."""
        angle = t[:, None] * self.frequency
        return self.mlp(torch.cat([angle.sin(), angle.cos()], dim=1))


def check_conditions(
    cond: Mapping[str, Tensor] | None, conditions: Mapping[str, TensorSpec]
) -> None:
    """Raise `RefusedPair` when `cond` names a condition that the model was not trained with, and
    `RecipeError` when it names none."""
    if cond is not None and not isinstance(cond, Mapping):
        raise RecipeError(
            "conditions are given by name", found=reprlib.repr(cond), expected="a dict",
            hint=f"cond={{{next(iter(conditions), 'label')!r}: ...}}",
        )  # fmt: skip
    for name in cond or {}:
        if name not in conditions:
            raise RefusedPair(
                f"the model has no condition {name!r}.{did_you_mean(name, conditions)}",
                expected=", ".join(conditions) or "an unconditional model takes none",
            )
