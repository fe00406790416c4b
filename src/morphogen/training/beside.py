"""An adapted model beside its base, on items that neither was trained on.

Both get the same items and the same draws, so that the difference has an interval of its own. The
base's own held-out data, where it still lies, tells what was forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
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
from morphogen.data.dataset import load
from morphogen.data.places import load_options, place_of
from morphogen.data.store import Store
from morphogen.evaluation import harm

MOST, LEAST = 256, 64  # items
SHARE = 0.15  # of the items trained on, or LEAST: each is met once here, and by both models
AT_ONCE = 16
RESAMPLED = 1000
AUTO, NONE = "auto", "none"


def losses(family: Family, split: Store, most: int = MOST) -> Tensor:
    """The loss of each of some items that lie evenly in a split: (n,)."""

    def loss_of(batch: Batch, draw: torch.Generator) -> Tensor:
        loss, parts = family.loss(batch, family.phases[-1], draw)
        told = loss if family.objective in (None, "loss") else parts[str(family.objective)]
        return told.float().expand(len(batch))

    was_training = family.training
    found = evenly(family, split, loss_of, most, 0)
    family.train(was_training)
    return found


@torch.no_grad()
def evenly(
    family: Family,
    split: Store,
    of: Callable[[Batch, torch.Generator], Tensor],
    most: int,
    stream: int,
) -> Tensor:
    """A number for each of up to `most` items that lie evenly in a split, (n,), by a family in
    evaluation mode; draws are of a `stream` of their own."""
    num = min(len(split), most)
    index = torch.arange(num) * len(split) // max(num, 1)
    family.eval()
    found = []
    for number, part in enumerate(torch.split(index, AT_ONCE)):
        draw = torch.Generator(device=family.device).manual_seed(mix_seed(stream, number))
        found.append(of(split.batch(part).to(family.device), draw).cpu())
    return torch.cat(found) if found else torch.empty(0)


def compared(base: Tensor, tuned: Tensor) -> dict[str, Any]:
    """Means with intervals of 95 % by bootstrap, and of the difference, item by item."""
    draw = torch.Generator().manual_seed(0)
    picks = torch.randint(max(len(base), 1), (RESAMPLED, len(base)), generator=draw)
    named = {"base": base, "tuned": tuned, "change": tuned - base}
    told: dict[str, Any] = {"n": len(base)}
    for name, values in named.items():
        means = values[picks].mean(1)
        low, high = torch.quantile(means, torch.tensor([0.025, 0.975])).tolist()
        told[name] = {"value": float(values.mean()), "low": low, "high": high}
    return told


def beside(
    bundle: Bundle,
    test: Store,
    forgetting: str = AUTO,
    scored: Callable[[Family, Store, int], Tensor] = losses,
    trained_on: int | None = None,
) -> dict[str, dict[str, Any]]:
    """What the adapted model and its base make of `held_out` items of the new data, as they are
    `scored`, and of the base's own, `before`; without what there is not. Fewer are looked at where
    fewer were `trained_on`, so that it takes its share of a run's time and no more."""
    assert bundle.path is not None
    most = MOST if trained_on is None else min(MOST, max(LEAST, int(SHARE * trained_on)))
    base = Bundle.open(checked_base(bundle.recipe.start, bundle.path))
    base.family.to(bundle.family.device)
    found: dict[str, dict[str, Any]] = {}
    if harm.why_not(bundle) is None and harm.why_not(base) is None:
        found["harm"] = harm.beside(*(harm.say(each) for each in (base, bundle)))
    if len(test) > 1 and _alike(test.spec, base.family.spec):
        found["held_out"] = compared(
            scored(base.family, test, most), scored(bundle.family, test, most)
        )
    try:
        own = _base_data(base, forgetting)
    except MorphogenError:
        return found
    if own is not None and len(own) > 1 and _alike(own.spec, bundle.family.spec):
        found["before"] = compared(losses(base.family, own, most), losses(bundle.family, own, most))
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
