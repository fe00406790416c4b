"""Many draws for each of some held-out items, under its own conditions.

Only where an item follows from what it comes with, such as the past of a series: drawing a label's
items again and again says nothing of one of them. For the floor, any training items stand for the
draws: what a model that looks at no past would say.

Legend: N held-out items, S draws of each.
"""

from __future__ import annotations

import torch

from morphogen.core.bundle import Bundle
from morphogen.core.encoded import tensor
from morphogen.core.errors import MeasurementError
from morphogen.core.following import ComesWith
from morphogen.core.metric import Draws
from morphogen.core.random import generator, mix_seed
from morphogen.core.spec import TensorSpec
from morphogen.data.dataset import Data
from morphogen.evaluation.asked import encoded_for

NUM_DRAWS = 19  # then 20 ranks: bands of 80 and 90 % end at draws
MOST_ITEMS = 100


def why_no_draws(bundle: Bundle, data: Data) -> str | None:
    """Why there is nothing to forecast; None where there is."""
    known = [n for n in bundle.family.conditions if n in data.test.cond]
    comes = data.codec.comes_with if isinstance(data.codec, ComesWith) else ()
    labels = {name for name in known if data.conditions[name].is_label}
    if not set(known) & set(comes) - labels:
        return "the items follow from nothing that they come with"
    real = isinstance(data.spec, TensorSpec) and data.spec.kind == "real"
    return None if real and bundle.family.spec == data.spec else "the items are not of real values"


def draws_of(bundle: Bundle, data: Data, seed: int) -> Draws:
    """Draws for some held-out items, evenly spread over the split."""
    num = min(MOST_ITEMS, len(data.test))
    if num < 2:
        raise MeasurementError("there are too few held-out items to forecast", found=num)
    index = torch.linspace(0, len(data.test) - 1, num).long()
    names = [name for name in bundle.family.conditions if name in data.test.cond]
    cond = {name: encoded_for(bundle, data, name)[index] for name in names}
    each = {name: value.repeat_interleave(NUM_DRAWS, 0) for name, value in cond.items()}
    result = bundle.sample(num * NUM_DRAWS, seed=mix_seed(seed, 11), cond=each)
    drawn = tensor(result.x).cpu().view(num, NUM_DRAWS, *data.spec.shape)
    draw = generator(mix_seed(seed, 12))
    some = torch.randint(len(data.train), (num * NUM_DRAWS,), generator=draw)
    train = tensor(data.train.batch(some).x).view(num, NUM_DRAWS, *data.spec.shape)
    return Draws(data.spec, drawn, tensor(data.test.batch(index).x), train)
