"""A judge from outside: a model that was trained elsewhere, and says features of these items.

    morphogen evaluate models/boots --judge models/published/efficientnet_lite0

The two judges of every evaluation know the data: one was trained on it, one is fitted to it. A
model that has never seen it, but much else, may notice what both take for granted. Items go to it
as a user would have them, through its own codec; of its features the leading principal components
of training items are compared, as many as so many items can tell. Its distance stands beside those
of the others and does not lead: not everybody has that model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.capability import CanEncode, HasFeatures, missing
from morphogen.core.codec import Item
from morphogen.core.encoded import Encoded, num_items, rows
from morphogen.core.errors import MeasurementError, RefusedPair
from morphogen.core.matching import matches, taking_items
from morphogen.core.measurement import Measurement
from morphogen.core.metric import Features
from morphogen.core.origin import hash_of
from morphogen.core.random import generator, mix_seed
from morphogen.data.dataset import Data
from morphogen.evaluation._samples import LEADING, features_of
from morphogen.evaluation.features import parts
from morphogen.evaluation.scores import check_enough, measure
from morphogen.evaluation.whole import COMPONENTS, FEWEST_PER_COMPONENT

MOST = 2_000  # items of each set
BATCH = 50  # seen at once


@dataclass(frozen=True)
class Outside:
    """A model that features come from, and how it sees the items of some data."""

    bundle: Bundle
    data: Data

    @classmethod
    def of(cls, bundle: Bundle, data: Data) -> Outside:
        """Raises `RefusedPair` for a model that says no features, or takes no such items."""
        if missing(bundle.family, HasFeatures) and missing(bundle.family, CanEncode):
            raise RefusedPair(
                "the judge says no features of items", found=type(bundle.family).__name__,
                expected="a model that embeds: morphogen tasks MODEL",
            )  # fmt: skip
        judge = cls(bundle, data)
        with taking_items("the judge", data.codec, bundle.codec):
            judge.features(data.train.batch(torch.arange(min(2, len(data.train)))).x)
        return judge

    @property
    def name(self) -> str:
        """What a score says of who judged."""
        path = self.bundle.path
        return path.name if path is not None else discover.name_of(type(self.bundle.family))

    @property
    def weights_hash(self) -> str:
        """What tells it from others."""
        return hash_of(self.bundle) or ""

    def sets(self, x: Encoded, seed: int) -> Features:
        """Features of generated, held-out and training items, over their leading components."""
        draw = generator(seed)
        num = min(MOST, num_items(x))
        train = torch.randperm(len(self.data.train), generator=draw)[:num]
        held_out = torch.randperm(len(self.data.test), generator=draw)[:MOST]
        generated = self.features(rows(x, slice(num)))
        known = features_of(self.features, self.data.train, train)
        reference = features_of(self.features, self.data.test, held_out)
        centre = known.mean(0)
        axes = _leading(known - centre, max(2, min(COMPONENTS, num // FEWEST_PER_COMPONENT)))
        return Features(
            *(((each - centre) @ axes).float() for each in (generated, reference, known))
        )

    def features(self, x: Encoded) -> Tensor:
        """Items as the data encodes them -> (N, D)."""
        return torch.cat([self._seen(rows(x, part)) for part in parts(num_items(x), BATCH)])

    @torch.no_grad()
    def _seen(self, x: Encoded) -> Tensor:
        model: Any = self.bundle.family
        values = self.data.codec.decode_many(x)
        encoded = self.bundle.codec.encode_many([Item(value) for value in values])
        given = torch.as_tensor(encoded).to(model.device)
        found = model.encode(given) if missing(model, HasFeatures) else model.features(given)
        return found.flatten(1).double().cpu()


def score_outside(
    record: dict[str, Any], x: Encoded, bundle: Bundle | None, data: Data
) -> list[Measurement]:
    """The distance of generated items as the model in `bundle` sees it, where there is one that is
    not a judge of pairs (see `alignment`). Raises `RefusedPair`."""
    if bundle is None or matches(bundle):
        return []
    judge, seed = Outside.of(bundle, data), record["protocol"]["seed"]
    protocol = {**record["protocol"], "outside_judge": judge.name,
                "outside_judge_sha256": judge.weights_hash}  # fmt: skip
    sets = judge.sets(x, mix_seed(seed, 11))
    try:
        check_enough(sets)
        found = measure(LEADING, sets, protocol, seed)
    except MeasurementError as error:
        record["warnings"].append(
            f"{LEADING} by {judge.name} was not measured: {error.message}, {error.found}"
        )
        return []
    said = f"judge: {judge.name}, which never saw this data"
    return [
        replace(
            each, name=f"{each.name}_by_outside", note="; ".join(filter(None, [each.note, said]))
        )
        for each in found
    ]


def _leading(centred: Tensor, num: int) -> Tensor:
    """The directions (D, K) along which values (N, D) vary most."""
    return torch.linalg.eigh(centred.T @ centred / len(centred)).eigenvectors[:, -num:]
