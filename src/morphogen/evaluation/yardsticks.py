r"""A judge is tested before it judges: how far does it put real items after known small damage?

    ratio(s) = 1 + [d(damaged, held out) - d(the same items, held out)] / floor

d is the Frechet distance over the judge's features, of training items in both places, so that the
bias of few items cancels. Beside a model's score stands the damage of the same ratio, between the
measured strengths by straight lines: "as far as real items blurred by 0.4 pixels". Damage whose
strongest form stays within the interval of the floor is what the judge cannot see, and is named.

The yardsticks depend on the data and the judge alone, so they are kept in the cache folder.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import morphogen
from morphogen.core.encoded import Encoded, joined
from morphogen.core.errors import MorphogenError
from morphogen.core.measurement import Measurement
from morphogen.core.random import generator, mix_seed
from morphogen.core.storage import cache_folder, write_text
from morphogen.data.dataset import Data
from morphogen.evaluation._damages import Damage, damages
from morphogen.evaluation.features import parts
from morphogen.metrics.frechet import frechet_distance

DAMAGED = 1000  # training items


@dataclass(frozen=True)
class Yardstick:
    """Real items after one kind of damage, in several strengths: times the floor, by one judge."""

    words: str  # to follow "real items"
    clean: float  # the strength that does nothing
    strengths: tuple[float, ...]
    ratios: tuple[float, ...]

    def worded(self, strength: float) -> str:
        """What real items are like after it."""
        return self.words.format(strength)

    def seen_from(self, floor_high: float) -> float | None:
        """The weakest strength that is farther than the floor's interval reaches, or None."""
        for strength, ratio in zip(self.strengths, self.ratios, strict=True):
            if ratio > floor_high:
                return strength
        return None

    def equal_to(self, ratio: float) -> float | None:
        """The strength at which real items are so many times the floor away; None beyond all."""
        last, low = self.clean, 1.0
        for strength, reached in zip(self.strengths, self.ratios, strict=True):
            if ratio <= reached:
                share = 0.0 if ratio <= low else (ratio - low) / (reached - low)
                return last + share * (strength - last)
            last, low = strength, max(low, reached)
        return None


def yardsticks(
    features: Callable[[Encoded], Tensor],
    data: Data,
    reference: Tensor,
    floor: float,
    *,
    key: str = "",
    seed: int = 0,
    bank: Tensor | None = None,
) -> list[Yardstick]:
    """How far the judge whose `features` these are puts damaged training items.

    `reference` are its features of held-out items and `floor` its Frechet distance of undamaged
    ones, in whose multiples the ratios are. With a `key`, which names the judge, distances are
    looked for in the cache first. Training items of the `bank` are left out: a judge knows them.
    """
    about = [data.digest, key, morphogen.__version__, len(reference), DAMAGED, seed]
    name = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]
    file = cache_folder() / f"yardsticks-{name}.json"
    found = _read(file) if key else None
    if found is None:
        found = _measured(features, data, reference, seed, bank)
        if key:
            _keep(file, found)
    return [
        Yardstick(
            each["words"], each["clean"], tuple(each["strengths"]),
            tuple(1 + max(0.0, excess) / floor for excess in each["excess"]),
        )
        for each in found
    ]  # fmt: skip


def _measured(
    features: Callable[[Encoded], Tensor],
    data: Data,
    reference: Tensor,
    seed: int,
    bank: Tensor | None,
) -> list[dict[str, Any]]:
    """The excess distance of every damage, as JSON."""
    draw = generator(mix_seed(seed, 21))
    some = torch.randperm(len(data.train), generator=draw)
    some = some if bank is None else some[~torch.isin(some, bank)]
    some = some[:DAMAGED]
    x = joined([data.train.batch(some[index]).x for index in parts(len(some))])
    clean = frechet_distance(features(x), reference)

    def excess(damage: Damage, number: int, strength: float) -> float:
        damaged = damage.change(x, strength, generator(mix_seed(seed, 22, number)))
        return frechet_distance(features(damaged), reference) - clean

    return [
        {
            "words": damage.words,
            "clean": damage.clean,
            "strengths": list(damage.strengths),
            "excess": [excess(damage, number, strength) for strength in damage.strengths],
        }
        for number, damage in enumerate(damages(data.spec, data.codec, x))
    ]


def told(sticks: Sequence[Yardstick], score: Measurement) -> dict[str, Any]:
    """What a record says of a judge's yardsticks, beside a score in times the floor."""
    high = score.floor_high or 1.0
    rows = []
    for stick in sticks:
        equal = stick.equal_to(score.value)
        seen = stick.seen_from(high)
        rows.append(
            {
                "damage": stick.words,
                "strengths": list(stick.strengths),
                "ratios": [round(ratio, 4) for ratio in stick.ratios],
                **({} if seen is None else {"seen_from": seen}),
                **({} if equal is None or seen is None else {"equal_to": float(f"{equal:.3g}")}),
            }
        )
    return {
        "yardsticks": rows,
        "as_far_as": as_far_as(sticks, score.value, high),
        "unseen": [s.worded(s.strengths[-1]) for s in sticks if s.seen_from(high) is None],
    }


def as_far_as(sticks: Sequence[Yardstick], ratio: float, floor_high: float = 1.0) -> str:
    """A sentence's end: "as far as real items blurred by 0.4 pixels"."""
    seen = [stick for stick in sticks if stick.seen_from(floor_high) is not None]
    if ratio <= floor_high:
        return "no farther than the luck of the draw puts real items"
    for stick in seen:
        if (equal := stick.equal_to(ratio)) is not None:
            return f"as far as real items {stick.worded(equal)}"
    if not seen:
        return ""
    farthest = max(seen, key=lambda stick: max(stick.ratios))
    return f"farther than real items {farthest.worded(farthest.strengths[-1])}"


def _read(file: Path) -> list[dict[str, Any]] | None:
    """What was kept; None where there is nothing that can be read."""
    try:
        found: list[dict[str, Any]] = json.loads(file.read_text())
        for each in found:
            numbers = [each["clean"], *each["strengths"], *each["excess"]]
            if not all(math.isfinite(number) for number in numbers):
                return None
            str(each["words"]).format(1.0)
        return found
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _keep(file: Path, found: list[dict[str, Any]]) -> None:
    """What cannot be written costs time later, nothing now."""
    try:
        write_text(file, json.dumps(found, indent=2) + "\n")
    except MorphogenError:
        return
