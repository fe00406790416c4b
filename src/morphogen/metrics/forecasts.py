r"""How good many draws for one real item are, as a forecast of it: value by value.

    crps          E |X - y| - 1/2 E |X - X'|, the continuous ranked probability score, of real
                  values in [-1, 1]; by all pairs of draws, which is unbiased (Gneiting & Raftery
                  2007; Ferro 2014). 0 for a sure and right one, the mean error for a single guess
    forecast_mse  (mean of X - y)^2
    coverage_gap  |share of y in the band of 80 % - 0.8|: what a band promises, and what it holds

Legend: N items, S draws.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from morphogen.core.bands import band
from morphogen.core.errors import MeasurementError
from morphogen.core.metric import Draws, scores

LEVEL = 0.8


@scores(ratios=True, crps=False, forecast_mse=False, coverage_gap=False)
def forecasts(sets: Draws, *, generator: torch.Generator | None = None) -> Mapping[str, float]:
    """CRPS, squared error of the mean, and how far a band of 80 % is from holding 80 %."""
    draws, truth = sets.generated.double(), sets.reference.double()
    if draws.shape[1] < 2:
        raise MeasurementError("one draw tells no band", found="one draw", expected="two or more")
    for what, x in (("draws", draws), ("held-out items", truth)):
        if not bool(torch.isfinite(x).all()):
            raise MeasurementError(f"the {what} are not finite", hint="the model may have diverged")
    return {
        "crps": float(crps(draws, truth).mean()),
        "forecast_mse": float((draws.mean(1) - truth).square().mean()),
        "coverage_gap": abs(float(coverage(draws, truth, LEVEL)) - LEVEL),
    }


def crps(draws: Tensor, truth: Tensor) -> Tensor:
    """(N, S, *), (N, *) -> the score of each value, (N, *).

    Of sorted draws, sum over pairs |x_i - x_j| = sum_i (2 i - S - 1) x_i, i from 1 on.
    """
    num = draws.shape[1]
    error = (draws - truth[:, None]).abs().mean(1)
    rank = 2 * torch.arange(1, num + 1).to(draws) - num - 1
    ordered = draws.sort(1).values
    pairs = torch.einsum("ns...,s->n...", ordered, rank) * 2 / (num * (num - 1))
    return error - 0.5 * pairs


def coverage(draws: Tensor, truth: Tensor, level: float) -> Tensor:
    """The share of values that lie in the band of `level`: a scalar."""
    low, high = band(draws, level)
    return ((truth >= low) & (truth <= high)).double().mean()
