r"""Whether items show what they were asked for, by a judge that places both in one space.

    asked_first    share of items to which nothing that could have been asked for is nearer than
                   what was
    asked_in_ten   share to which fewer than ten are
    likeness       100 max(0, f(x) . g(y)), as CLIPScore      (Hessel et al. 2021, arXiv:2104.08718)

All three beside what real items of the same conditions reach, which says how good the judge is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from morphogen.core.errors import MeasurementError
from morphogen.core.metric import Aligned, scores

CLOSE = 1e-5  # cosines that differ by less are the same


@scores(ratios=False, asked_first=True, asked_in_ten=True, likeness=True)
def alignment(sets: Aligned, *, generator: torch.Generator | None = None) -> Mapping[str, float]:
    """How often what was asked for is nearest, or among the nearest ten, and how near it is."""
    if not bool(torch.isfinite(torch.cat([sets.generated, sets.asked])).all()):
        raise MeasurementError("the judge's vectors are not finite", found="NaN or infinity")
    own = (sets.generated * sets.asked).sum(1)  # (N,)
    near = sets.generated @ sets.candidates.T  # (N, M)
    before = (near > own[:, None] + CLOSE).sum(1)
    return {
        "asked_first": float((before == 0).double().mean()),
        "asked_in_ten": float((before < 10).double().mean()),
        "likeness": float(100 * own.double().clamp(min=0).mean()),
    }
