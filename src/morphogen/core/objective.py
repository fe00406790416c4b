"""The contract of the objective axis: what a trained model is taught beyond its data.

A family learns the distribution of its items. An objective changes a model that knows one: towards
what a function rewards, or towards what people preferred, and not far from what it was.

    put_on(family, reference, judge)    once, before the first step
    step(batch, updates, generator)     in place of `Family.step`
    scores(family, split)               how good a model is by it, item by item: higher is better
    changes(family)                     where it has that: options that the family gets by it, which
                                        `put_on` sets and the recipe of the run says
    state(), load_state(tensors)        where it has those: what a step changes beside the weights,
                                        for a run that goes on
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.family import Family, HealthyRange, Update


@dataclass(frozen=True)
class Drawn:
    """Items that a model drew: (N, *), with conditions by name in `batch`, and which of their
    tokens it drew itself, (N, L); None where that is all. `begun`: what it drew goes on with the
    beginning of an item, and both are one; otherwise the beginning is what was asked."""

    batch: Batch
    own: Tensor | None = None
    begun: bool = False


class Judge(Protocol):
    """Says what each of some draws is worth."""

    def __call__(self, drawn: Drawn) -> tuple[list[Any], Tensor]:
        """The items as people see them, and their rewards, (N,)."""
        ...


class Reference:
    """The model as it was before: a copy of it, or where an adapter is trained, what it is put on.

    `with reference.at_work() as model:` is the only way to it.
    """

    def __init__(self, family: Family, other: Family | None = None) -> None:
        self.family, self.other = family, other
        if other is not None:
            other.requires_grad_(False).eval()

    @contextmanager
    def at_work(self) -> Iterator[Family]:
        """A block in which the model gives what it gave before it was trained."""
        if self.other is not None:
            yield self.other
            return
        adapter: Any = self.family.adapter
        with adapter.switched_off(self.family):
            yield self.family


class Objective(Protocol):
    """What a trained model is taught beyond its data."""

    train_defaults: ClassVar[dict[str, Any]]  # what it trains best with
    rate: ClassVar[float]  # of learning, as a share of that which an adapted model has
    watched: Mapping[str, HealthyRange]  # healthy ranges of what it logs
    scored: ClassVar[str]  # what `scores` are, in words
    judged: ClassVar[bool]  # whether it draws, and takes a `Judge`

    def put_on(self, family: Family, reference: Reference, judge: Judge | None) -> None:
        """Teach this family from now on. Raises `RefusedPair` for one that cannot be taught so."""
        ...

    def step(
        self, batch: Batch, updates: Mapping[str, Update], generator: Any
    ) -> dict[str, Tensor]:
        """One training step. Returns named scalars."""
        ...

    def scores(self, family: Family, batch: Batch, generator: Any) -> Tensor:
        """How good a model is, for each item of a batch: (B,)."""
        ...

    def shown(self) -> list[str]:
        """A few of the last draws, for people; none where it draws nothing."""
        ...
