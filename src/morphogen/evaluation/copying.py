r"""Is the model replaying its training items?

Generated items are compared with training and with held-out items, in several views (as they are,
mirrored and shifted, as features: `_views.py`). Three tests decide (`_closeness.py`), and any one
of them is enough:

    labels      takes nothing for granted: an honest model cannot know which real items were held
                out, so it lies next to training items as often as there are such. Needs many copies
    tail        sharper: more generated than held-out items have a training item far nearer than the
                room around it. An honest model that draws from fewer modes than the data can do
                that too, so the labels of those same items must support it at 5 %
    replicas    sharpest: several training items hit at less than half the smallest ratio of any
                held-out item, and no held-out item hit like that

The smallest of their p-values times three, each with a Bonferroni correction over the views and
over what it scans, is held against the level. Held-out items say what is usual, so near-duplicates
in the data are no copies.

Reported beside them, in the terms of the literature: the share of generated items nearer to
training than to held-out items, C_T (Meehan et al. 2020), authenticity (Alaa et al. 2022). They
describe; blurred or typical items move the last two without any copying.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from morphogen.core.encoded import Encoded, num_items
from morphogen.core.errors import MeasurementError
from morphogen.core.measurement import Measurement
from morphogen.data.store import Store
from morphogen.evaluation._look import Look, Viewpoint
from morphogen.evaluation._views import views

LEVEL = 0.01  # chance of calling an honest model a copier, over all tests and views
SUPPORT = 0.05  # level at which labels must support the tail test
FEWEST = 50  # generated, training, and held-out items
MOST_DESCRIBED = 5000  # training items that say how far numbers vary
Verdict = Literal["copies", "no sign of copying", "too few items to tell"]


@dataclass(frozen=True)
class Copying:
    """The verdict, the sentence that says why, and what every view shows."""

    verdict: Verdict
    reason: str
    p_value: float | None = None
    level: float = LEVEL
    looks: list[Look] = field(default_factory=list)
    worst: int = 0  # the look that decided, or came nearest to

    @property
    def pairs(self) -> Tensor:
        """(K, 2) numbers of generated and training items to be shown side by side."""
        return self.looks[self.worst].pairs if self.looks else torch.empty(0, 2, dtype=torch.long)

    @property
    def scores(self) -> list[Measurement]:
        """Every view's scores."""
        return [score for look in self.looks for score in look.scores]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "p_value": self.p_value,
            "level": self.level,
            "looks": [look.to_json() for look in self.looks],
            "worst": self.worst,
        }


def copying(
    generated: Encoded,
    train: Store,
    held_out: Store,
    features: Callable[[Encoded], Tensor] | None = None,
    *,
    seed: int = 0,
    num_pairs: int = 16,
    protocol: Mapping[str, Any] | None = None,
) -> Copying:
    """Whether generated items, encoded as the splits are, replay training items.

    `features` maps encoded items to (B, D), such as `FeatureExtractor.features`. `Judge` does the
    same for several models, and does once what does not depend on them. Raises `MeasurementError`
    when nothing is held out, when all items are the same, when generated items are not finite.
    """
    if len(held_out) and (reason := _too_few(num_items(generated), len(train), len(held_out))):
        return Copying("too few items to tell", reason)
    return Judge(train, held_out, features, seed=seed)(generated, num_pairs, protocol)


class Judge:
    """Training and held-out items, seen in every view that fits them."""

    def __init__(
        self,
        train: Store,
        held_out: Store,
        features: Callable[[Encoded], Tensor] | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.spec, self.seed = train.spec, seed
        self.counts = (len(train), len(held_out))
        if reason := _too_few(FEWEST, *self.counts):
            raise MeasurementError(
                "copying is judged against held-out items, and there are too few"
                if len(held_out) < FEWEST
                else reason,
                found=f"{len(train)} training and {len(held_out)} held-out items",
                expected=f"at least {FEWEST} of either",
                hint="add items to the data, or a test folder",
            )
        item = train.stored(torch.arange(1))
        if train.holds_only(item) and held_out.holds_only(item):
            raise MeasurementError(
                "all items are the same: copying cannot be told from learning",
                found=f"{len(train)} equal training items",
            )
        some = train.batch(torch.arange(min(len(train), MOST_DESCRIBED))).x
        self.viewpoints = [
            Viewpoint(view, train, held_out, seed) for view in views(self.spec, features, some)
        ]

    def __call__(
        self,
        generated: Encoded,
        num_pairs: int = 16,
        protocol: Mapping[str, Any] | None = None,
    ) -> Copying:
        """The verdict on generated items, encoded."""
        self.spec.check(generated, "generated items")
        if reason := _too_few(num_items(generated), *self.counts):
            return Copying("too few items to tell", reason)
        tensors = generated.values() if isinstance(generated, dict) else [generated]
        if not all(bool(torch.isfinite(each).all()) for each in tensors):
            raise MeasurementError(
                "generated items are not finite",
                hint="the model may have diverged: look at its samples",
            )
        about = {"seed": self.seed, "num_train": self.counts[0], "num_held_out": self.counts[1]}
        looks = [
            viewpoint.look(generated, self.seed, num_pairs, {**about, **(protocol or {})})
            for viewpoint in self.viewpoints
        ]
        return _judged(looks, num_items(generated), *self.counts)


def p_values(look: Look, num_views: int) -> dict[str, float]:
    """Each test's p-value in one of several views, corrected so that LEVEL / 3 is its level."""
    supported = look.support.p_value * LEVEL / 3 / SUPPORT
    found = {
        "labels": look.labels.p_value * num_views,
        "tail": max(look.tail.p_value * num_views, supported),
        "replicas": look.replicas.p_value * num_views,
    }
    return {name: min(1.0, p) for name, p in found.items()}


def _judged(looks: list[Look], num: int, num_train: int, num_held_out: int) -> Copying:
    found = [p_values(look, len(looks)) for look in looks]
    smallest, worst, test = min(
        (p, number, name) for number, each in enumerate(found) for name, p in each.items()
    )
    p_value = min(1.0, 3 * smallest)
    if p_value <= LEVEL:
        reason = f"{_finding(looks[worst], test)} (p = {p_value:.1g}, level {LEVEL:g})"
        return Copying("copies", reason, p_value, LEVEL, looks, worst)
    honest = num_train / (num_train + num_held_out)
    needed = math.ceil(math.log(SUPPORT) / math.log(honest))
    if needed > num:
        reason = (
            f"nothing was found, but with {num_held_out:,} of {num_train + num_held_out:,} real "
            f"items held out even {num:,} copies need not show: hold out or generate more"
        )
        return Copying("too few items to tell", reason, p_value, LEVEL, looks, worst)
    reason = (
        f"generated items lie no nearer to training than to held-out items (p = {p_value:.2g}, "
        f"level {LEVEL:g}); close copies of {needed:,} training items, {needed / num:.1%} of what "
        "was generated, would have shown"
    )
    return Copying("no sign of copying", reason, p_value, LEVEL, looks, worst)


def _finding(look: Look, test: str) -> str:
    """What was found, in numbers."""
    if test == "labels":
        found = look.labels.counts
        return (
            f"seen as {look.view}, {found['train']} of the {found['real']} real items next to the "
            f"{found['items']} most suspicious generated ones are training items, where an honest "
            f"model has {found['expected']}"
        )
    if test == "tail":
        found = look.tail.counts
        return (
            f"seen as {look.view}, {found['below']} generated items are nearer to a training item, "
            f"for the room around it, than all but {found['rank'] - 1} held-out items, where "
            f"{found['expected']} are to be expected"
        )
    found = look.replicas.counts
    return (
        f"seen as {look.view}, {found['training items']} training items are replayed by "
        f"{found['generated items']} generated ones, more closely than any held-out item comes"
    )


def _too_few(num: int, num_train: int, num_held_out: int) -> str | None:
    """The sentence that says so when there is too little to tell."""
    counts = {"generated": num, "training": num_train, "held-out": num_held_out}
    for name, count in counts.items():
        if count < FEWEST:
            return f"{count} {name} items, where {FEWEST} are the fewest"
    return None
