"""How widely a model's items are spread: the deviation of each value over samples."""

from __future__ import annotations

import torch

from morphogen.core.capability import CanSample, Conditions
from morphogen.core.result import Result


def toy_spread(
    model: CanSample,
    *,
    cond: Conditions | None = None,  # conditions by name, each (num, ...)
    generator: torch.Generator,
    num: int = 16,  # how many items to draw
) -> Result:
    """Draw items and give the mean deviation of their values."""
    x = model.sample(num, cond=cond, generator=generator)
    return Result(values={"spread": float(x.float().std(0).mean())}, route="sample")
