"""The averaged weights that did best on items held back from training.

    theta = argmin over the steps s looked at of  mean_i loss(theta_s, x_i),    x_i held back

A model that learns its items by heart gets better on them and worse on others; where it turns is
seen on items that it does not learn (Prechelt 1998, "Early stopping - but when?"). Nothing is
stopped: the schedule goes on, and the best weights are put in place at the end. Steps are looked at
by their numbers and with the same draws, so that a run that was interrupted keeps the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from morphogen.core.codec import Codec
from morphogen.core.errors import RecipeError, TrainingError
from morphogen.core.family import Family, own_state
from morphogen.core.following import HoldsBack
from morphogen.core.storage import below
from morphogen.data.store import Store
from morphogen.training.beside import MOST, evenly, loss

FEWEST_OWNERS = 10  # files; of fewer, parts of one file may be on both sides


class Best:
    """The weights to keep, and how good they are."""

    def __init__(self, items: Store, at_once: int) -> None:
        self.items, self.at_once = items, at_once
        self.step, self.loss = 0, math.inf
        self.weights: dict[str, Tensor] = {}

    def see(self, family: Family, step: int) -> float:
        """The mean loss of the items by a family as it is now, whose weights are kept where it is
        the least so far."""
        (found,) = evenly([family], self.items, loss, at_once=self.at_once)
        mean = float(found.mean())
        if mean < self.loss:
            self.step, self.loss = step, mean
            self.weights = {k: v.detach().clone() for k, v in own_state(family).items()}
        return mean

    def text(self) -> str:
        """For people."""
        num = min(len(self.items), MOST)
        return (
            f"kept the weights of step {self.step}, by which the loss of {num} items held back was "
            f"least: {self.loss:.4g}"
        )

    def state(self) -> dict[str, Tensor]:
        """As named tensors; `load_state` is the inverse."""
        about = torch.tensor([self.step, self.loss], dtype=torch.float64)
        return {"about": about, **{f"weights/{name}": each for name, each in self.weights.items()}}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Go back to a state."""
        step, self.loss = tensors["about"].tolist()
        self.step = int(step)
        self.weights = below("weights/", tensors)


def check_has_loss(family: Family, objective: object) -> None:
    """Raise `RecipeError` where no loss tells which weights are best."""
    if objective is not None or family.objective is None:
        what = type(family).__name__ if objective is None else type(objective).__name__
        raise RecipeError(
            f"the best weights cannot be told: {what} has no loss that falls as it learns",
            where="train.keep_best",
            hint="leave out train.keep_best",
        )


def parted(split: Store, codec: Codec | None) -> tuple[Store, Store | None]:
    """The items that are learned from, and those that the codec holds back, if it does."""
    own = None if codec is None else codec.viewed
    found = own.held_back(split.names) if isinstance(own, HoldsBack) else None
    if found is None:
        return split, None
    learned, held = found
    return split.take(learned), split.take(held)


def held_apart(split: Store, held_back: Store | None, share: float) -> tuple[Store, Store | None]:
    """The items that are learned from, and those by which the best weights are told: those that
    the codec holds back, or a share of the rest. None where no weights are to be told."""
    if not share or held_back is not None:
        return split, held_back if share else None
    learned, held = by_names(split.names, share)
    return split.take(learned), split.take(held)


def by_names(names: Sequence[str], share: float) -> tuple[Tensor, Tensor]:
    """Which of the items called so are learned from, and which are held back: (N,), (M,).

    Chosen by hashes of names, so that other items joining changes little; those of one file
    (a.png#caption 1, a.png#caption 2) stay together where there are files enough. Raises
    `TrainingError` where nothing would be left.
    """
    owners = [name.partition("#")[0] for name in names]
    if len(set(owners)) < FEWEST_OWNERS:
        owners = list(names)
    ranked = sorted(set(owners), key=lambda owner: hashlib.sha256(owner.encode()).digest())
    held = set(ranked[: max(1, round(share * len(ranked)))])
    is_held = torch.tensor([owner in held for owner in owners], dtype=torch.bool)
    if is_held.all():
        raise TrainingError(
            "there are too few items to hold some back",
            found=f"{len(names)} items",
            where="train.keep_best",
            hint="leave out train.keep_best",
        )
    return (~is_held).nonzero().flatten(), is_held.nonzero().flatten()
