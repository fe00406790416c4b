"""How far are the means? The whole price of one more metric: this file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from morphogen.core.encoded import Encoded
from morphogen.core.errors import MeasurementError
from morphogen.core.metric import Items, scores


@scores(ratios=False, toy_mean=False)
def toy_mean(items: Items, *, generator: torch.Generator | None = None) -> Mapping[str, float]:
    """How far the mean value of generated items is from that of real ones."""
    means = [float(torch.cat(list(_values(x))).mean()) for x in (items.generated, items.reference)]
    if not abs(means[0] - means[1]) < float("inf"):
        raise MeasurementError("the items are not finite")
    return {"toy_mean": abs(means[0] - means[1])}


def _values(x: Encoded) -> Iterator[torch.Tensor]:
    for part in x.values() if isinstance(x, dict) else [x]:
        yield part.flatten().double().sort().values  # in one order, so that sums round alike
