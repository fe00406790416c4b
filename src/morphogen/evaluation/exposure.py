r"""Memorisation measured by planted canaries (Carlini et al. 2019, "The Secret Sharer").

Canaries are drawn at random and planted in the training split 1, 4, 16, 64 times. After training,
each is ranked by the model among fresh references that were drawn in the same way and never seen:

    exposure = log2(number of references) - log2(rank)          rank 1: likelier than all of them

A model that remembers nothing ranks a canary anywhere: the rank is uniform, and the mean exposure
is 1 / ln 2 = 1.44 bits. The largest that can be measured is log2(number of references).

A canary is a patchwork: its positions are cut into blocks (a vector's values each by itself), and
every block is that of another training item, drawn at random. Its parts are as usual as the data's,
in any spec; that they come together is what there is to remember. The conditions are those of one
training item.

Scores are the task `anomaly`'s, averaged over repeats where they are drawn: log p(x) where the
model has it, else the denoising error, the reconstruction error, or the energy.

Legend: N canaries, R references, D values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.errors import DataError, MeasurementError
from morphogen.core.measurement import Measurement
from morphogen.core.random import generator, mix_seed, randint
from morphogen.core.spec import TensorSpec
from morphogen.data.dataset import Data
from morphogen.data.split import Split, digest_splits
from morphogen.evaluation.features import parts

REPEATS = (1, 4, 16, 64)
FORGETFUL = 1 / math.log(2)  # bits: the mean exposure of canaries that nothing is remembered of
BLOCKS = {1: 16, 2: 4, 3: 2}  # parts that every axis is cut into, by the number of axes
DRAWS = 4  # of a score that is an estimate
RESAMPLED = 2000  # bootstrap repeats


@dataclass(frozen=True)
class Canaries:
    """What was planted: `planted` (N items), how often each (N,), and R references never seen."""

    planted: Split
    repeats: Tensor
    references: Split
    digest: str  # of the data that they were planted in, canaries included
    seed: int

    def to_json(self) -> dict[str, Any]:
        """What a record says of them; the same data and seed give the same canaries again."""
        counts = {int(r): int((self.repeats == r).sum()) for r in torch.unique(self.repeats)}
        about = {"num_references": len(self.references), "digest": self.digest, "seed": self.seed}
        return {"canaries_by_repeats": counts, **about}


def plant(
    data: Data,
    repeats: Sequence[int] = REPEATS,
    *,
    num: int = 8,
    num_references: int = 1024,
    seed: int = 0,
) -> tuple[Data, Canaries]:
    """The data with `num` canaries for each of `repeats` in its training split, and the canaries.

    Train on what is returned, then ask for `exposure`. Raises `DataError` when there are too few
    training items to draw canaries from.
    """
    if len(data.train) < 2 or not repeats or min(num, num_references, *repeats) < 1:
        raise DataError(
            "canaries cannot be planted",
            found=f"{len(data.train)} training items, {num} canaries, repeats {list(repeats)}",
            expected="at least two training items, one canary, and one repeat",
            where=data.source,
        )
    draw = generator(mix_seed(seed, 77))
    total = num * len(repeats)
    drawn = patchworks(data.train, total + num_references, draw)
    numbers = torch.arange(total + num_references)
    planted, references = drawn.take(numbers[:total]), drawn.take(numbers[total:])
    often = torch.tensor(list(repeats)).repeat_interleave(num)
    train = _joined(data.train, planted.take(numbers[:total].repeat_interleave(often)))
    digest = digest_splits(data.spec, {"train": train, "test": data.test})
    changed = replace(data, train=train, digest=digest)
    return changed, Canaries(planted, often, references, digest, seed)


def patchworks(split: Split, num: int, generator: torch.Generator) -> Split:
    """`num` items, every block of each from another item of the split, drawn at random."""
    block = block_numbers(split.spec)  # (*shape)
    source = randint(len(split), (num, int(block.max()) + 1), generator)  # (num, blocks)
    x = split.x.new_empty(num, *split.spec.shape).flatten(1)
    columns = torch.arange(x.shape[1])
    for part in parts(num):
        x[part] = split.x.flatten(1)[source[part][:, block.flatten()], columns]
    whose = source[:, 0]
    cond = {name: values[whose] for name, values in split.cond.items()}
    return Split(
        split.spec, x.view(num, *split.spec.shape), cond, [f"canary {i}" for i in range(num)]
    )


def block_numbers(spec: TensorSpec) -> Tensor:
    """Which block each value of an item belongs to, (*shape)."""
    if spec.layout == "vector" or not spec.space:
        return torch.arange(spec.num_values).view(spec.shape)
    number = torch.zeros(spec.space, dtype=torch.long)
    for axis, extent in enumerate(spec.space):
        count = min(BLOCKS.get(len(spec.space), 2), extent)
        place = torch.arange(extent) * count // extent
        shape = [extent if other == axis else 1 for other in range(len(spec.space))]
        number = number * count + place.view(shape)
    return number.expand(spec.shape)


def exposure(
    model: Any,
    canaries: Canaries,
    *,
    route: str | None = None,
    seed: int = 0,
    protocol: Mapping[str, Any] | None = None,
) -> dict[int, Measurement]:
    """Mean exposure in bits by number of repeats, with a bootstrap interval over the canaries.

    `note` gives the probability that a model which remembers nothing has as much. Raises
    `MeasurementError` for scores that are not finite, `RefusedPair` for a model that has none.
    """
    planted = surprise(model, canaries.planted, route, seed)
    references = surprise(model, canaries.references, route, seed)
    bits = exposures(planted, references)
    found = {}
    for repeats in torch.unique(canaries.repeats).tolist():
        own = bits[canaries.repeats == repeats]
        low, high = _bootstrap(own, generator(mix_seed(seed, repeats)))
        found[repeats] = Measurement(
            f"exposure_{repeats}", float(own.mean()), len(own), higher_is_better=False,
            low=low, high=high, interval=f"95 %, bootstrap over canaries, {RESAMPLED} repeats",
            floor=FORGETFUL,
            note=f"p = {p_value(own, len(references)):.2g} for a model that remembers nothing; "
            f"{math.log2(len(references)):.2f} bits is the most that can show",
            protocol={**canaries.to_json(), "seed": seed, **(protocol or {})},
        )  # fmt: skip
    return found


def exposures(planted: Tensor, references: Tensor) -> Tensor:
    """log2 R - log2 rank (N,) of surprises (N,) among those of references (R,); ties count half."""
    below = (references[None] < planted[:, None]).sum(1)
    equal = (references[None] == planted[:, None]).sum(1)
    return math.log2(len(references)) - torch.log2(1 + below + 0.5 * equal)


def p_value(bits: Tensor, num_references: int) -> float:
    """P(sum of exposures >= this sum) when ranks are uniform.

    With R + 1 ranks equally likely, -ln((rank - U) / (R + 1)) is exactly exponential for a uniform
    U; taking rank in place of rank - U can only lower the sum, so the gamma tail is an upper bound.
    """
    from scipy.stats import gamma  # type: ignore[import-untyped]

    shift = math.log((num_references + 1) / num_references)
    nats = float((bits.double() * math.log(2) + shift).sum())
    return float(gamma.sf(nats, len(bits)))


@torch.no_grad()
def surprise(model: Any, split: Split, route: str | None, seed: int) -> Tensor:
    """The score (N,) of the task `anomaly`, higher for stranger items; the noises are the same for
    every split."""
    anomaly = discover.find("task", "anomaly")
    exact = getattr(model, "log_prob_is", "exact") == "exact"
    total = torch.zeros(len(split), dtype=torch.float64)
    for number in range(1 if exact else DRAWS):
        for part in parts(len(split)):
            batch = split.batch(part).to(model.device)
            cond = {name: v for name, v in batch.cond.items() if name in model.conditions}
            draw = generator(mix_seed(seed, number))
            result = anomaly(model, batch.x, cond=cond or None, generator=draw, route=route)
            total[part] += torch.tensor(result.values["score"], dtype=torch.float64)
    if not bool(torch.isfinite(total).all()):
        raise MeasurementError("the model's scores of the canaries are not finite")
    return total


def _bootstrap(values: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """Percentiles of the mean of values (N,)."""
    index = torch.randint(len(values), (RESAMPLED, len(values)), generator=generator)
    ends = (
        values.double()[index].mean(1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    )
    return float(ends[0]), float(ends[1])


def _joined(first: Split, second: Split) -> Split:
    names = list(itertools.chain(first.names, second.names)) if first.names else []
    cond = {name: torch.cat([v, second.cond[name]]) for name, v in first.cond.items()}
    return Split(first.spec, torch.cat([first.x, second.x]), cond, names)
