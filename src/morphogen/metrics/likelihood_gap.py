r"""What a model has learned by heart: bits that held-out items cost more than training items.

    gap = sum_held bits / sum_held units  -  sum_trained bits / sum_trained units

0 for a model that has learned the law and not the items; it grows as training goes on too long. The
floor is that of two halves of the held-out items, so it may be below 0. Of a bound it is as good as
the bound is equally tight for both.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from morphogen.core.errors import MeasurementError
from morphogen.core.metric import Likelihoods, scores


@scores(ratios=False, likelihood_gap=False)
def likelihood_gap(
    sets: Likelihoods, *, generator: torch.Generator | None = None
) -> Mapping[str, float]:
    """Bits per unit that held-out items cost above training items; 0 is best."""
    for bits in (sets.bits, sets.train_bits):
        if not bool(torch.isfinite(bits).all()):
            raise MeasurementError("the likelihoods are not finite", found="NaN or infinity")
    held, trained = (
        float(bits.double().sum() / units.double().sum())
        for bits, units in ((sets.bits, sets.units), (sets.train_bits, sets.train_units))
    )
    return {"likelihood_gap": held - trained}
