r"""A trained model that looks at items place by place: frozen, what it sees is the condition.

    encode(item) = clip((h(item) - m) / s, 6)      (D, *places), m and s of each feature

Items are read once, when the data is encoded. `--condition itself=models/eyes` reads the items
themselves so: what a network is to tell of them, half-way, while it learns to draw them (`told`).

Legend: B batch, D features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.capability import HasMapFeatures, missing
from morphogen.core.codec import Codec, Item
from morphogen.core.codec_storage import codec_tensors
from morphogen.core.config import describe, rebuild
from morphogen.core.errors import DataError, RefusedPair
from morphogen.core.family import Family
from morphogen.core.recipe import Recipe
from morphogen.core.spec import TensorSpec
from morphogen.core.storage import below
from morphogen.wrappers._around import CodecAround

BATCH = 64
MOST_MEASURED = 512  # items of which the features are measured
LEAST_SPREAD, MOST_SPREADS = 1e-4, 6.0  # of a feature: below it, not used; beyond them, cut


class MapCodec(CodecAround):
    """Encodes items to what a frozen model sees at each place, feature by feature at unit variance.

    Raises `RefusedPair` for a model that sees no places.
    """

    makes: ClassVar[str] = "features"

    def __init__(self, inner: Codec, model: Family, recipe: Recipe) -> None:
        if missing(model, HasMapFeatures):
            raise RefusedPair(
                f"{type(model).__name__} does not say what it sees at each place of an item",
                expected="a model of pictures, such as published/efficientnet_lite0",
                hint="morphogen import models/published/efficientnet_lite0 --out models/eyes",
            )
        super().__init__(inner)
        self.model, self.recipe = model.eval().requires_grad_(False), recipe
        self.mean, self.std = torch.zeros(0), torch.ones(0)

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """A bundle as a reader; `fit` it to the training items before use."""
        return cls(bundle.codec, bundle.family, bundle.recipe)

    def fit(self, items: Iterable[Item]) -> MapCodec:
        """Measure mean and deviation of each feature on the first items. The model stays."""
        some = list(islice(items, MOST_MEASURED))
        if not some:
            raise DataError("there is nothing to read", found="no items")
        seen = self.seen(some)
        values = seen.movedim(1, 0).flatten(1)  # (D, B places)
        self.mean, self.std = values.mean(1), values.std(1, correction=0).clamp(min=LEAST_SPREAD)
        return self._sized(seen.shape[1:])

    def _sized(self, shape: Sequence[int]) -> MapCodec:
        self.spec = TensorSpec("real", tuple(shape), layout="grid")
        return self

    @torch.no_grad()
    def seen(self, items: Sequence[Item]) -> Tensor:
        """Items -> (B, D, *places), as the model gives it, on the CPU."""
        model: Any = self.model
        found = []
        for start in range(0, len(items), BATCH):
            x = self.inner.encode_many(items[start : start + BATCH]).to(self.model.device)
            found.append(model.map_features(x).float().cpu())
        return torch.cat(found)

    def encode(self, item: Item) -> Tensor:
        """Item -> what is seen in it (D, *places)."""
        return self.encode_many([item])[0]

    def encode_many(self, items: Sequence[Item]) -> Tensor:
        """Items -> (B, D, *places)."""
        if not items:
            return torch.empty(0, *self.spec.shape)
        places = (1,) * len(self.spec.space)
        found = (self.seen(items) - self.mean.view(-1, *places)) / self.std.view(-1, *places)
        return found.clamp(-MOST_SPREADS, MOST_SPREADS)

    def decode(self, x: Tensor) -> Any:
        """Never: what was seen is not kept."""
        raise RefusedPair(
            "what a model has seen in an item cannot be drawn again", found=str(self.spec)
        )

    def spread(self, x: Any) -> str:
        """What it reads by."""
        return f"{self.spec} by a frozen {type(self.model).__name__}"

    # -- disk --------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The inner codec, what rebuilds the model, and the shape of what it sees. JSON."""
        return {**describe(self.model, self.inner, self.recipe), "shape": list(self.spec.shape)}

    def tensors(self) -> dict[str, Tensor]:
        """The model's weights, the inner codec's, and the statistics."""
        kinds = {"model": self.model.state_dict(), "inner": codec_tensors(self.inner)}
        named = {f"{kind}.{n}": each for kind, held in kinds.items() for n, each in held.items()}
        return {**named, "mean": self.mean, "std": self.std}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> MapCodec:
        """Inverse of `state` and `tensors`."""
        weights = below("model.", tensors)
        about = {name: value for name, value in state.items() if name != "shape"}
        model, inner, recipe = rebuild(about, below("inner.", tensors), weights)
        model.load_state_dict(weights)
        codec = cls(inner, model, recipe)
        codec.mean, codec.std = tensors["mean"], tensors["std"]
        return codec._sized(state["shape"])
