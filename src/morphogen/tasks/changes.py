r"""Find where a sequence of items begins to be another: the items of a new kind are less expected.

    s_i     how strange item i is to the model, as `anomaly` scores it
    cost    sum over stretches of sum_i (s_i - mean of the stretch)^2
    cut     where the cost falls most, as long as it falls by more than  penalty sigma^2 log n

(binary segmentation, Scott & Knott 1974; the penalty as in the criterion of Schwarz 1978.) sigma is
the noise of single scores, by the median of their differences, which no change disturbs. Items are
taken to follow one another in the order that they are given in; those without a score, of which
nothing is known, are passed over.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

import torch
from torch import Tensor

from morphogen.core.capability import CanDenoise, CanReconstruct, HasEnergy, HasLogProb
from morphogen.core.encoded import Encoded
from morphogen.core.errors import RecipeError
from morphogen.core.result import Result
from morphogen.tasks._routes import Conditions
from morphogen.tasks.anomaly import anomaly

TO_DEVIATION = 1.4826 / math.sqrt(2)  # of the median of |differences| of Gaussian noise


def changes(
    model: HasLogProb | CanDenoise | CanReconstruct | HasEnergy,
    x: Any,
    *,
    cond: Conditions | None = None,  # conditions by name, each (N, ...)
    generator: torch.Generator,
    known: Encoded | None = None,  # True where x is there; none: all of it
    penalty: float = 6.0,  # the more, the fewer changes are told
    shortest: int = 3,  # items of a stretch, at least
    num_draws: int = 16,  # denoising route: noises that the error is averaged over
    route: Literal["denoise", "log_prob", "reconstruct", "energy"] | None = None,  # force a way
) -> Result:
    """Find where items that follow one another begin to be of another kind."""
    if shortest < 1 or penalty < 0:
        raise RecipeError(
            "the stretches do not fit", found=f"shortest={shortest}, penalty={penalty}",
            expected="shortest 1 or more, penalty 0 or more",
        )  # fmt: skip
    scored = anomaly(
        model, x, cond=cond, generator=generator, known=known, num_draws=num_draws, route=route
    )
    every = scored.values["score"]
    there = [number for number, score in enumerate(every) if score is not None]
    scores = torch.tensor([every[number] for number in there], dtype=torch.float64)
    cuts = segmented(scores, penalty, shortest)
    edges = [0, *cuts, len(there)]
    means = [float(scores[a:b].mean()) for a, b in itertools.pairwise(edges)]
    values = {"score": every, "begins": [there[cut] for cut in cuts], "mean_score": means}
    return Result(x, values, scored.route)


def segmented(scores: Tensor, penalty: float, shortest: int) -> list[int]:
    """Where stretches of another mean begin, in order: scores (N,) -> numbers of items."""
    differences = scores.diff().abs()
    sigma = TO_DEVIATION * float(differences.median()) if len(differences) else 0.0
    least = penalty * sigma**2 * math.log(max(len(scores), 2))
    found: list[int] = []
    waiting = [(0, len(scores))]
    while waiting:
        start, end = waiting.pop()
        place, gain = _best_cut(scores[start:end], shortest)
        if gain > max(least, 1e-12):
            found.append(start + place)
            waiting += [(start, start + place), (start + place, end)]
    return sorted(found)


def _best_cut(scores: Tensor, shortest: int) -> tuple[int, float]:
    """Where a stretch is best parted in two, and by how much its cost falls."""
    num = len(scores)
    if num < 2 * shortest:
        return 0, 0.0
    places = torch.arange(shortest, num - shortest + 1)
    before = scores.cumsum(0)[places - 1]
    left, right = before / places, (scores.sum() - before) / (num - places)
    gains = places * (num - places) / num * (left - right).square()
    best = int(gains.argmax())
    return int(places[best]), float(gains[best])
