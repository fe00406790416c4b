r"""Hidden features of a denoiser that are to tell what a model that knows more sees in the item.

    loss = mean over places p of 1 - cos(f(h_p), c_p),     f: two layers

h_p are features half-way through the network, of the noisy item; c_p is what the other model sees
of the clean one there, read once and given as a condition that nothing hears: it is not asked for
when items are drawn. A network learns so in minutes what things are, which noise alone teaches it
late (Yu et al. 2025, "Representation alignment for generation", arXiv:2410.06940).

Legend: B batch, D hidden features, C features that are told, P places.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.core.batch import Batch
from morphogen.core.condition_readers import begins_with_whole
from morphogen.core.conditioning import of_items, present
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.family import Family
from morphogen.core.spec import TensorSpec

POOL: dict[int, Any] = {
    1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d,
}  # fmt: skip


class Told(nn.Module):
    """A condition that hidden features (B, D, *grid) are to tell: place by place where it has as
    many axes as they have, else of the item as a whole."""

    def __init__(self, name: str, spec: TensorSpec, dim: int) -> None:
        super().__init__()
        if spec.kind != "real":
            raise nothing_told(f"{name}, {spec}", [])
        if not dim:
            raise RefusedPair(
                "this network gives no features half-way that could tell anything",
                expected="transformer or unet", hint="--backbone transformer, or no family.told",
            )  # fmt: skip
        self.name, self.spec = name, spec
        width = spec.channels if spec.space else spec.num_values
        self.head = nn.Sequential(nn.Linear(dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, width))

    def forward(self, h: Tensor, value: Tensor) -> Tensor:
        """(B, D, *grid), (B, *condition's shape) -> how far from it each tells, (B,); 0 of items of
        which it is absent."""
        there = present(value, self.spec)
        value = value.masked_fill(~of_items(there, value), 0)
        if len(self.spec.space) == h.dim() - 2 and not begins_with_whole(self.spec):
            size = tuple(min(a, b) for a, b in zip(h.shape[2:], self.spec.space, strict=True))
            h, value = POOL[len(size)](h, size).flatten(2), POOL[len(size)](value, size).flatten(2)
        else:
            h, value = h.flatten(2).mean(2, keepdim=True), self._whole(value)[..., None]
        told = self.head(h.transpose(1, 2))  # (B, P, C)
        near = F.cosine_similarity(told, value.transpose(1, 2), dim=2)  # (B, P)
        return torch.where(there, 1 - near.mean(1), 0)

    def _whole(self, value: Tensor) -> Tensor:
        """What is said of an item as a whole: (B, C)."""
        if not self.spec.space:
            return value.flatten(1)
        return value[:, :, 0] if begins_with_whole(self.spec) else value.flatten(2).mean(2)


class Telling(Family):
    """A family whose hidden features may have to tell one of its conditions, `unheard` else."""

    in_training = ("told.",)

    def set_telling(self, name: str | None, weight: float, dim: int) -> None:
        """Have features of `dim` channels tell the condition of a name, if it is there: in a bundle
        it is not, and nothing is told. Before data is learned, `check_told` minds."""
        self.told_by, self.told_weight = name, weight
        self.told = next((Told(own, each, dim) for own, each in self.unheard.items()), None)

    def check_told(self) -> None:
        """Raise `RecipeError` where what is to be told is not said of items."""
        if self.told_by is not None and self.told is None:
            raise nothing_told(self.told_by, list(self.conditions))

    def heard(self, batch: Batch) -> dict[str, Tensor]:
        """The conditions of a batch that the network hears."""
        return {name: value for name, value in batch.cond.items() if name not in self.unheard}

    def listens(self, batch: Batch) -> list[Tensor] | None:
        """Where features half-way are to go, in training where they have something to tell."""
        tells = self.told is not None and self.training and self.told.name in batch.cond
        return [] if tells else None

    def with_told(
        self, error: Tensor, parts: dict[str, Tensor], batch: Batch, midway: list[Tensor] | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch (B,), and its parts, with what these features have to tell."""
        if not midway or self.told is None:
            return error, parts
        apart = self.told(midway[0], batch.cond[self.told.name])
        return error + self.told_weight * apart, {**parts, "told": apart}


def told_apart(
    conditions: Mapping[str, TensorSpec], name: str | None
) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """What is to be told, by its name, and the conditions that are heard."""
    told = {own: each for own, each in conditions.items() if own == name}
    return told, {own: each for own, each in conditions.items() if own not in told}


def nothing_told(found: str, known: list[str]) -> RecipeError:
    """The error for what hidden features cannot tell, among conditions that are `known`."""
    return RecipeError(
        "what hidden features are to tell is a condition that a model has read",
        found=found,
        expected=f"one of {', '.join(known)}" if known else "a condition of numbers",
        where="family.told",
        hint="--condition caption,itself=models/eyes --set family.told=itself",
    )
