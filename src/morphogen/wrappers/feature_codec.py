r"""A trained model that others look through: items are what it sees in them, not the items.

    encode(item) = clip((h(item) - mean) / std, 6),   h = what its stages see, else its features

    item ---> codec of the data ---> codec of the model ---> frozen model ---> h (D,)

`morphogen train DATA --condition caption --family contrastive --through models/eyes` learns so what
items show from few of them, by a network that has seen more: a linear probe, or two towers of which
one is frozen (Zhai et al. 2022, LiT, arXiv:2111.07991). Nothing can be drawn of it.

Items are read once. What a network would be shown anew in each step, a little changed, is read as
well, as many times as `MOST_READ` allows: each training item has copies that are moved, brightened,
blurred and speckled. A judge that learned from clean items alone calls soft ones something else.

Legend: B batch, D features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.capability import CanEncode, HasFeatures, missing
from morphogen.core.codec import Codec, Item
from morphogen.core.codec_storage import codec_tensors, describe_codec, rebuild_codec
from morphogen.core.config import describe, rebuild
from morphogen.core.encoded import num_items, rows
from morphogen.core.errors import DataError, RefusedPair
from morphogen.core.family import Family
from morphogen.core.matching import taking_items
from morphogen.core.random import generator, mix_seed
from morphogen.core.recipe import Recipe
from morphogen.core.schema import check_options
from morphogen.core.spec import Spec, TensorSpec
from morphogen.core.storage import below
from morphogen.core.varied import Variation
from morphogen.wrappers._around import CodecAround, seen_in

BATCH = 64
MOST_COPIES, MOST_READ = 4, 10_000  # of each training item; items in all
LEAST_STD, MOST_STDS = 1e-4, 6.0  # of a feature: below it, it is not used; beyond them, it is cut
SHIFT = 0.1  # of a side
VARIED: dict[str, Any] = {"max_gain": 0.2, "max_blur": 1.3, "max_noise": 0.25}


class FeatureCodec(CodecAround):
    """Encodes items to what a frozen model sees in them, feature by feature at unit variance.

    `reader` is the codec of the model: it takes raw items as `inner` gives them back.
    Raises `RefusedPair` for a model that sees nothing.
    """

    family = "contrastive"
    makes: ClassVar[str] = "features"
    is_fitted = False

    def __init__(
        self,
        inner: Codec,
        reader: Codec,
        model: Family,
        recipe: Recipe,
        varied: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        super().__init__(inner)
        if missing(model, HasFeatures) and missing(model, CanEncode):
            raise RefusedPair(
                f"{type(model).__name__} sees nothing in items: it has no features and no latents",
                expected="an encoder, such as published/efficientnet_lite0, or latents",
                hint="morphogen import models/published/efficientnet_lite0 --out models/eyes",
            )
        self.reader, self.recipe = reader, recipe
        self.model = model.eval().requires_grad_(False)
        self.varied, self.variation = dict(varied), _variation(inner.spec, varied)
        self.mean, self.std = torch.zeros(0), torch.ones(0)

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> FeatureCodec:
        """A trained bundle as eyes, for items as its own codec encodes them; see `looking_at`."""
        return cls(bundle.codec, bundle.codec, bundle.family, bundle.recipe)

    def looking_at(self, inner: Codec, some: Any, options: Mapping[str, Any]) -> FeatureCodec:
        """The same for items of another codec, of which there are `some`, encoded; `measure` it on
        the training split before use. Their copies vary as `options` say, those of a `Variation`,
        or as usual. Raises `RefusedPair` where the model takes no such items."""
        known = [each.name for each in fields(Variation) if each.name in options]
        varied = check_options(Variation, {name: options[name] for name in known}, "family")
        codec = FeatureCodec(inner, self.reader, self.model, self.recipe, varied)
        with taking_items("the model", inner, self.reader, "--through a model of such items"):
            dim = codec.seen(some).shape[1]
        return codec._of(torch.zeros(dim), torch.ones(dim))

    def _of(self, mean: Tensor, std: Tensor) -> FeatureCodec:
        self.mean, self.std, self.spec = mean, std, TensorSpec.vector(len(mean))
        return self

    # -- learning ----------------------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> FeatureCodec:
        """Measure mean and standard deviation of every feature. What is inside stays."""
        return self.measure([self.seen(self.inner.encode_many(list(items)))])

    def measure(self, batches: Iterable[Tensor]) -> FeatureCodec:
        """Take mean and standard deviation of every feature (B, D), batch by batch."""
        sums, squares, count = torch.zeros(()), torch.zeros(()), 0
        for h in batches:
            sums, squares = sums + h.double().sum(0), squares + h.double().square().sum(0)
            count += len(h)
        if not count:
            raise DataError("there is nothing to measure the features on", found="no items")
        mean = sums / count
        variance = (squares / count - mean.square()).clamp(min=0)
        self.is_fitted = True
        return self._of(mean.float(), variance.sqrt().clamp(min=LEAST_STD).float())

    def num_copies(self, num: int) -> int:
        """Of each of `num` training items, how many changed ones are read beside it."""
        if self.variation is None or not num:
            return 0
        return max(min(MOST_COPIES, MOST_READ // num - 1), 0)

    # -- reading -----------------------------------------------------------------------------------

    def encode(self, item: Item) -> Tensor:
        """Item -> what is seen in it (D,)."""
        return self.encode_many([item])[0]

    def encode_many(self, items: Sequence[Item]) -> Tensor:
        """Items -> (B, D)."""
        if not items:
            return torch.empty(0, *self.spec.shape)
        return self.standardised(self.seen(self.inner.encode_many(items)))

    def recoded(self, batches: Iterable[Any]) -> Iterator[Tensor]:
        """Items as the inner codec encodes them, batch by batch -> as this one does."""
        return map(self.standardised, map(self.seen, batches))

    def changed(self, batches: Iterable[Any], number: int) -> Iterator[Tensor]:
        """The same of the copy with that number of each item."""
        draw = generator(mix_seed(0, number))
        for x in batches:
            assert self.variation is not None
            yield self.standardised(self.seen(self.variation(x, draw).clamp(-1, 1)))

    def standardised(self, h: Tensor) -> Tensor:
        """Features (B, D) to zero mean and unit variance, cut where they are far off."""
        found = (h - self.mean) / self.std
        return found.clamp(-MOST_STDS, MOST_STDS) if self.is_fitted else found

    @torch.no_grad()
    def seen(self, x: Any) -> Tensor:
        """Items as the inner codec encodes them -> what the model sees (B, D), on the CPU."""
        found = []
        for start in range(0, num_items(x), BATCH):
            values = self.inner.decode_many(rows(x, slice(start, start + BATCH)))
            given = self.reader.encode_many([Item(value) for value in values])
            found.append(seen_in(self.model, given))
        return torch.cat(found)

    def decode(self, x: Tensor) -> Any:
        """Never: what was seen is not kept."""
        raise RefusedPair(
            "what a model has seen in an item cannot be drawn again", found=str(self.spec),
            hint="--through a model that decodes as well: a vae, an autoencoder",
        )  # fmt: skip

    # -- disk --------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The inner codec, and what rebuilds the model and its own codec. JSON."""
        return {
            "inner": describe_codec(self.inner),
            "model": describe(self.model, self.reader, self.recipe),
            "varied": self.varied,
        }

    def tensors(self) -> dict[str, Tensor]:
        """The model's weights, those of both codecs, and the statistics."""
        kinds = {
            "model": self.model.state_dict(), "inner": codec_tensors(self.inner),
            "reader": codec_tensors(self.reader),
        }  # fmt: skip
        named = {f"{kind}.{n}": each for kind, held in kinds.items() for n, each in held.items()}
        return {**named, "mean": self.mean, "std": self.std}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> FeatureCodec:
        """Inverse of `state` and `tensors`."""
        inner = rebuild_codec(state["inner"], below("inner.", tensors))
        weights = below("model.", tensors)
        model, reader, recipe = rebuild(state["model"], below("reader.", tensors), weights)
        model.load_state_dict(weights)
        codec = cls(inner, reader, model, recipe, state["varied"])
        codec.is_fitted = True
        return codec._of(tensors["mean"], tensors["std"])


def _variation(spec: Spec, varied: Mapping[str, Any]) -> Variation | None:
    """How items of a spec may change and still be what they are; None where it is not known."""
    if not isinstance(spec, TensorSpec) or spec.kind != "real" or len(spec.space) < 2:
        return None
    usual = {**VARIED, "max_shift": round(SHIFT * min(spec.space))}
    return Variation(**{**usual, **varied})
