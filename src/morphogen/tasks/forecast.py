r"""Say what comes next: many draws after a past, and the band that a share of the truth lies in.

    x^(s) ~ p(x | past),   s = 1 .. S;    middle = median of x^(s);    mean = 1/S sum x^(s)

The band of level 0.8 goes from the draw that a tenth of the truth lies below to that which a tenth
lies above (`core.bands`), value by value: it is as good as the draws are, which an evaluation says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from morphogen.core.bands import band, quantile
from morphogen.core.capability import CanSample, refuses, unless
from morphogen.core.codec import Item
from morphogen.core.encoded import tensor
from morphogen.core.errors import RecipeError
from morphogen.core.following import CanGoOn
from morphogen.core.result import Result
from morphogen.core.spec import Spec, TensorSpec
from morphogen.tasks._routes import Conditions, asked, chunks, only, repeat

PAST = "past"


def _is_real(spec: Spec) -> bool:
    return isinstance(spec, TensorSpec) and spec.kind == "real"


def _without_past(model: Any) -> str | None:
    if PAST in getattr(model, "conditions", {}):
        return None
    return "is for items that come after a past, and this model knows none"


@refuses(only("real values", _is_real))
@unless(_without_past)
def forecast(
    model: CanSample,
    coming: Sequence[Item],
    codec: Any = None,
    *,
    cond: Conditions | None = None,  # conditions by name, each (N, ...)
    generator: torch.Generator,
    num: int = 100,  # draws of each
    level: float = 0.8,  # share of the truth that the band is to hold
    num_steps: int | None = None,  # of each draw, for models that sample in steps
) -> Result:
    """Draw what comes after each source many times: the middle, and a band about it."""
    if not 0 < level < 1 or num < 2:
        raise RecipeError(
            "the band does not fit", found=f"level={level}, num={num}",
            expected="0 < level < 1, and two draws or more",
        )  # fmt: skip
    options = asked(model.sample, num_steps=num_steps)
    drawn = [
        tensor(model.sample(p.stop - p.start, cond=share, generator=generator, **options))
        for p, share in chunks(len(coming) * num, repeat(cond, num))
    ]
    draws = torch.cat(drawn)
    draws = draws.view(len(coming), num, *draws.shape[1:])  # (N, S, *)
    low, high = band(draws, level)
    ends = {"low": low, "middle": quantile(draws, 0.5), "high": high}
    if not isinstance(codec, CanGoOn):
        x = torch.stack(list(ends.values()), dim=1).flatten(0, 1)
        return Result(x, {"level": level, "num": num}, "sample", columns=3)
    made = [
        codec.banded(item, low[row].cpu(), ends["middle"][row].cpu(), high[row].cpu(), level)
        for row, item in enumerate(coming)
    ]
    return Result(None, {"level": level, "num": num}, "sample", raw=made)
