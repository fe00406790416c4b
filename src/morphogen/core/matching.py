"""A model of pairs for items that another model's codec encoded, and what is said of them.

It may see items in another size, or through another model, and read words by other tokens: what it
cannot take as it is encoded is decoded, and encoded by its own codec; what a frozen reader made of
words, which it keeps no words of, is scaled as its own reader would have it.

Legend: B batch, N items, D dimensions of the space of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.capability import CanMatch, missing
from morphogen.core.codec import Codec, Item
from morphogen.core.codec_storage import codec_tensors, describe_codec
from morphogen.core.errors import MorphogenError, RefusedPair
from morphogen.core.following import CanReread
from morphogen.core.spec import TensorSpec


@contextmanager
def taking_items(who: str, items: Codec, own: Codec, hint: str | None = None) -> Iterator[None]:
    """Where a model, whose own codec is `own`, is first shown `items` as another encodes them.
    Raises `RefusedPair`, by what `who` is called, where it takes none such."""
    try:
        yield
    except (MorphogenError, TypeError, ValueError, AttributeError) as error:
        said = error.message if isinstance(error, MorphogenError) else str(error)
        raise RefusedPair(
            f"{who} does not take these items: {said}",
            found=f"items of {type(items.innermost).__name__}",
            expected=f"items of {type(own.innermost).__name__}",
            hint=hint,
        ) from error


def matches(bundle: Bundle) -> bool:
    """Whether the model of a bundle places items and what is said of them in one space."""
    model: Any = bundle.family
    return not missing(model, CanMatch) and model.target is not None


class Matcher:
    """The model of a bundle (`CanMatch`), which takes items, and what is said of them, as `codec`
    encodes them. Raises `RefusedPair` for a model of nothing said."""

    def __init__(self, bundle: Bundle, codec: Codec) -> None:
        if not matches(bundle):
            raise RefusedPair(
                "the judge does not say whether items show what was asked for",
                found=type(bundle.family).__name__, expected="a model of pairs",
                hint="morphogen train DATA --condition caption --family contrastive",
            )  # fmt: skip
        model: Any = bundle.family
        self.model, self.own, self.codec = model, bundle.codec, codec
        self.target: str = model.target
        # Of two vocabularies that were learned apart the sizes may be the same, and no more.
        counts = isinstance(codec.spec, TensorSpec) and codec.spec.kind == "token"
        alike = codec.spec == self.own.spec
        self._same_items = alike and (not counts or _as_kept(codec, self.own))
        own, other = (each.condition_codecs.get(self.target) for each in (self.own, codec))
        self._same_words = own is not None and other is not None and _same(own, other)

    @property
    def scale(self) -> float:
        """p(condition | item) among several is the softmax of it times their inner products."""
        return float(self.model.scale)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        found: torch.device = self.model.device
        return found

    def encode(self, x: Any) -> Tensor:
        """Items (B, *) -> (B, D), of length 1."""
        if not self._same_items:
            items = [Item(value) for value in self.codec.decode_many(x)]
            x = self.own.encode_many(items)
        found: Tensor = self.model.encode(x.to(self.device))
        return found

    def encode_condition(self, cond: Mapping[str, Tensor]) -> Tensor:
        """What is said of items, by its name, (B, *) -> (B, D), of length 1."""
        told = self.told(cond[self.target])
        found: Tensor = self.model.encode_condition({self.target: told.to(self.device)})
        return found

    def told(self, values: Tensor) -> Tensor:
        """What is said of items, (B, *), as its own codec encodes it."""
        if self._same_words:
            return values
        own, other = (each.condition_codecs[self.target] for each in (self.own, self.codec))
        again = own.reread(values.cpu(), other) if isinstance(own, CanReread) else None
        if again is not None:
            return again
        texts = [other.decode(each.cpu()) for each in values]
        return torch.stack([own.encode(Item(text)) for text in texts])


def _as_kept(one: Codec, other: Codec) -> bool:
    """Whether two codecs encode items alike, whatever is said of them."""
    first, second = one.tensors(), other.tensors()
    return one.state() == other.state() and _equal(first, second)


def _same(one: Codec, other: Codec) -> bool:
    """Whether two codecs encode alike: of the same state, and weights."""
    first, second = codec_tensors(one), codec_tensors(other)
    return describe_codec(one) == describe_codec(other) and _equal(first, second)


def _equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )
