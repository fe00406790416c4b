"""Named conditions to one vector: every family takes them in the same way.

A condition is described by a `TensorSpec`: a class label is one token, an embedding a real vector,
a caption a token sequence. Each is embedded, absent ones are replaced by a learned "none", and the
sum conditions the backbone. Dropping conditions at random in training is what makes guidance
possible (Ho & Salimans 2022, classifier-free guidance).

Legend: B batch, D embedding dimension.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from morphogen.core.errors import RefusedPair, did_you_mean
from morphogen.core.random import rand
from morphogen.core.spec import TensorSpec


class Conditioner(nn.Module):
    """Embeds named conditions: sum over names of embed_name(value), or none_name where absent."""

    def __init__(self, conditions: Mapping[str, TensorSpec], dim: int) -> None:
        super().__init__()
        self.conditions, self.dim = dict(conditions), dim
        self.zero: Tensor
        self.register_buffer("zero", torch.zeros(dim), persistent=False)
        self.embed = nn.ModuleDict()
        self.none = nn.ParameterDict()
        for name, spec in self.conditions.items():
            if spec.kind == "token":
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
        check_conditions(cond, self.conditions)
        total = self.zero.expand(batch_size, -1)
        keep = None
        if drop_prob > 0 and generator is not None and self.conditions:
            keep = (rand((batch_size, 1), generator) >= drop_prob).to(total.device)
        for name, spec in self.conditions.items():
            none = self.none[name].expand(batch_size, -1)
            if cond is None or name not in cond:
                total = total + none
                continue
            value = cond[name]
            if spec.kind == "token":
                embedded = self.embed[name](value)  # (B, D) for a label, (B, L, D) for a sequence
                embedded = embedded.mean(1) if embedded.dim() == 3 else embedded
            else:
                embedded = self.embed[name](value.flatten(1))
            total = total + (embedded if keep is None else torch.where(keep, embedded, none))
        return total


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
    """Raise `RefusedPair` when `cond` names a condition that the model was not trained with."""
    for name in cond or {}:
        if name not in conditions:
            raise RefusedPair(
                f"the model has no condition {name!r}.{did_you_mean(name, conditions)}",
                expected=", ".join(conditions) or "an unconditional model takes none",
            )
