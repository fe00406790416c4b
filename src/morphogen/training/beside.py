"""An adapted model beside its base, on items that neither was trained on.

Both get the same items and the same draws, so that the difference has an interval of its own. The
base's own held-out data, where it still lies, tells what was forgotten.

How much is looked at goes by the length of the run, so that judging takes its share and no more:

    items        SHARE of those trained on: two models meet each at half the price of a step
    beginnings   of words of harm, SAID of the items trained on: short texts, many at a time
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.bundle import Bundle
from morphogen.core.errors import MorphogenError
from morphogen.core.family import Family
from morphogen.core.random import mix_seed
from morphogen.core.spec import Spec, TensorSpec
from morphogen.core.start import checked_base
from morphogen.data import progress
from morphogen.data.dataset import load
from morphogen.data.places import load_options, place_of
from morphogen.data.store import Store
from morphogen.evaluation import harm
from morphogen.evaluation.intervals import mean_interval

MOST, LEAST, SHARE = 256, 16, 0.1  # items
FEWEST, SAID = 33, 0.2  # beginnings
AT_ONCE = 8  # items
AUTO, NONE = "auto", "none"

Scored = Callable[[Family, Batch, torch.Generator], Tensor]  # a number for each item: (B,)
Doing = Callable[[str], AbstractContextManager[None]]  # notes that a part goes on


def loss(family: Family, batch: Batch, generator: torch.Generator) -> Tensor:
    """The loss of each item: (B,)."""
    told, parts = family.loss(batch, family.phases[-1], generator)
    told = told if family.objective in (None, "loss") else parts[str(family.objective)]
    return told.float().expand(len(batch))


@torch.no_grad()
def evenly(
    families: Sequence[Family],
    split: Store,
    scored: Scored,
    most: int = MOST,
    at_once: int = AT_ONCE,
) -> list[Tensor]:
    """A number for each of up to `most` items that lie evenly in a split, (n,), by each of several
    families in evaluation mode, with the same draws; some items `at_once`."""
    num = min(len(split), most)
    index = torch.arange(num) * len(split) // max(num, 1)
    modes = [family.training for family in families]
    found: list[list[Tensor]] = [[torch.empty(0)] for _ in families]
    for family in families:
        family.eval()
    parts = enumerate(torch.split(index, at_once))
    for number, part in progress.told(parts, "judging:", -(-num // at_once), "batches"):
        batch = split.batch(part)
        for family, own in zip(families, found, strict=True):
            draw = torch.Generator(device=family.device).manual_seed(mix_seed(0, number))
            own.append(scored(family, batch.to(family.device), draw).cpu())
    for family, mode in zip(families, modes, strict=True):
        family.train(mode)
    return [torch.cat(own) for own in found]


def compared(base: Tensor, tuned: Tensor) -> dict[str, Any]:
    """Means with intervals of 95 %, and that of the difference, item by item."""
    found: dict[str, Any] = {"n": len(base)}
    for name, values in {"base": base, "tuned": tuned, "change": tuned - base}.items():
        low, high, _ = mean_interval(values.double().numpy())
        found[name] = {"value": float(values.mean()), "low": low, "high": high}
    return found


def beside(
    bundle: Bundle,
    test: Store,
    forgetting: str = AUTO,
    scored: Scored = loss,
    *,
    most: int = MOST,
    trained_on: int | None = None,
    doing: Doing = lambda part: nullcontext(),
) -> dict[str, dict[str, Any]]:
    """What the adapted model and its base make of `held_out` items of the new data, as they are
    `scored`, of the base's own, `before`, and of beginnings that may lead to words of `harm`;
    without what there is not. Of up to `most` items, fewer are looked at where fewer were
    `trained_on`."""
    assert bundle.path is not None
    worth = MOST / SHARE if trained_on is None else trained_on
    most = min(most, max(LEAST, int(SHARE * worth)))
    with doing("opening the base"):
        base = Bundle.open(checked_base(bundle.recipe.start, bundle.path))
    both = [base.family.to(bundle.family.device), bundle.family]
    found: dict[str, dict[str, Any]] = {}
    if len(test) > 1 and _alike(test.spec, base.family.spec):
        with doing("held-out items"):
            found["held_out"] = compared(*evenly(both, test, scored, most))
    with doing("forgetting"):
        own = None
        with suppress(MorphogenError):
            own = _base_data(base, forgetting)
        if own is not None and _alike(own.spec, bundle.family.spec):
            found["before"] = compared(*evenly(both, own, loss, most))
    if harm.why_not(bundle) is None and harm.why_not(base) is None:
        with doing("words of harm"):
            num = max(FEWEST, int(SAID * worth))
            found["harm"] = harm.beside(*(harm.say(each, num=num) for each in (base, bundle)))
    return found


def _alike(spec: Spec, other: Spec) -> bool:
    """Whether a model of `other` can tell items of `spec`: windows of a stream may be of any length
    that it sees."""
    if not isinstance(spec, TensorSpec) or not isinstance(other, TensorSpec):
        return spec == other
    windows = spec.boundary is not None and spec.num_values <= other.num_values
    return (replace(spec, shape=other.shape) if windows else spec) == other


def told(found: dict[str, dict[str, Any]], what: str) -> list[str]:
    """The same in sentences; `what` held-out items are scored by."""
    names = {"held_out": f"held-out items, {what}", "before": "the base's own held-out items, loss"}
    lines = [
        f"{names[name]}: base {_shown(each['base'])}, adapted {_shown(each['tuned'])}, "
        f"change {_shown(each['change'])}, n = {each['n']:,}"
        for name, each in found.items()
        if name in names
    ]
    return lines + ([harm.told_beside(found["harm"])] if "harm" in found else [])


def _base_data(base: Bundle, forgetting: str) -> Store | None:
    """The base's own held-out items, or those of data that is named."""
    if forgetting == NONE:
        return None
    if forgetting != AUTO:
        data = load(forgetting, codec=base.codec)
    else:
        data = load(place_of(base.data, ""), codec=base.codec, **load_options(base.data))
    return data.test if len(data.test) > 1 else None


def _shown(each: dict[str, float]) -> str:
    return f"{each['value']:.3f} [{each['low']:.3f}, {each['high']:.3f}]"
