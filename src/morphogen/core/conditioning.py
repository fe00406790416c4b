r"""Named conditions to a vector and a sequence: every family takes them in the same way.

A condition is described by the `TensorSpec` of the codec that reads it. One without positions (a
class, a number, an embedding) is embedded as a vector. One with positions (a caption, a picture) is
read in order: tokens or patches with what is known of their place, through two layers of
self-attention, whose outputs are a sequence to attend to and whose mean is a vector. So

    vector    sum over names of v_name(value)                       (B, D), modulates every block
    context   [none, h_1 .. h_N] of every name that has positions   (B, N, D) and its mask

where `none`, learned, takes the place of a vector that is absent, and is all that is left to see of
an absent sequence. Dropping conditions at random in training is what makes guidance possible (Ho &
Salimans 2022, classifier-free guidance). Where conditions are pooled, the vectors are all there is:
of a sequence that a frozen model has read, its first position, which stands for the whole.

An absent condition is left out of `cond` where no item has it, else -1 for tokens and NaN for
numbers, see `present`.

Legend: B batch, D embedding dimension, N positions.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from morphogen.core.condition_readers import (
    MOST_POSITIONS,
    NUM_LAYERS,
    First,
    Reader,
    Stem,
    begins_with_whole,
    has_positions,
)
from morphogen.core.errors import RecipeError, RefusedPair, did_you_mean
from morphogen.core.random import rand
from morphogen.core.spec import TensorSpec


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
        *,
        pooled: bool = False,
    ) -> None:
        super().__init__()
        self.conditions, self.dim, self.pooled = dict(conditions), dim, pooled
        self.zero: Tensor
        self.register_buffer("zero", torch.zeros(dim), persistent=False)
        self.embed = nn.ModuleDict()
        self.none = nn.ParameterDict()
        if pooled and not any(map(has_positions, self.conditions.values())):
            raise RecipeError(
                "only conditions that have positions are pooled to a vector",
                found=" and ".join(map(str, self.conditions.values())) or "no conditions",
                expected="a text, a picture, a sound", where="family.cond_pooled",
                hint="leave it out",
            )  # fmt: skip
        for name, spec in self.conditions.items():
            if pooled and begins_with_whole(spec):
                self.embed[name] = First(spec, dim)
            elif has_positions(spec):
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
            in_order = isinstance(self.embed[name], Reader)
            seen_in_order = in_order and not self.pooled
            if value is None:
                total = total + none
                if seen_in_order:
                    parts.append(sink(none))
                continue
            there = present(value, spec)
            seen = there if keep is None else there & keep[:, 0]
            value = value.masked_fill(~of_items(there, value), 0)
            if in_order:
                sequence, mask, embedded = self.embed[name](value)
                if seen_in_order:
                    parts += [sink(none), Context(sequence, mask & seen[:, None])]
            else:
                flat = spec.kind != "token" and not has_positions(spec)
                embedded = self.embed[name](value.flatten(1) if flat else value)
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


def context_dim(conditions: Mapping[str, TensorSpec], dim: int, pooled: bool = False) -> int:
    """How wide the context of such conditions is: `dim`, or 0 where none has positions, or where
    all are `pooled`."""
    return dim if any(map(has_positions, conditions.values())) and not pooled else 0


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
        there = of_items(keep.to(value.device), value)
        left[name] = torch.where(there, value, absent(specs[name]).to(value))
    return left


def sink(none: Tensor) -> Context:
    """The learned "none" (B, D) as the one position that can always be attended to."""
    return Context(none[:, None], none.new_ones(len(none), 1, dtype=torch.bool))


def of_items(which: Tensor, x: Tensor) -> Tensor:
    """Which items, (B,) bool, as a mask that is broadcastable against x (B, *)."""
    return which.view(-1, *(1,) * (x.dim() - 1))


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
