"""A codec of parts as one real vector, for families that know no parts.

    numbers    as they are
    tokens     one-hot, +1 for the token and -1 for the others, position by position
    lengths    one-hot as well: they are tokens
    nothing    0, where no value is real: beyond an end, or beyond a length

`decode` takes of every one-hot the largest and clamps numbers to [-1, 1], so that any vector is an
item. It is the encoding of tabular diffusion models that are Gaussian throughout (the baseline of
Kotelnikov et al. 2023, TabDDPM, arXiv:2209.15421).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from morphogen.core.codec import Codec, Item
from morphogen.core.codec_storage import codec_tensors, describe_codec, rebuild_codec
from morphogen.core.errors import RefusedPair
from morphogen.core.following import HasColumns, Values
from morphogen.core.spec import ProductSpec, TensorSpec
from morphogen.wrappers._around import CodecAround


class FlatCodec(CodecAround):
    """Encodes items of parts to vectors in [-1, 1]. The inner codec stays in the view it is in."""

    views = ("flat",)
    view = "flat"
    is_view = True
    is_fitted = True

    def __init__(self, inner: Codec) -> None:
        if not isinstance(inner.spec, ProductSpec):
            raise RefusedPair(
                "only items of several parts are made flat",
                found=str(inner.spec),
                expected="a codec whose items have parts",
            )
        super().__init__(inner)
        self.parts: ProductSpec = inner.spec
        self.spec = TensorSpec.vector(sum(_width(part) for _, part in self.parts))

    def fit(self, items: Iterable[Item]) -> FlatCodec:
        """Fit the codec inside."""
        self.inner.fit(items)
        self.__init__(self.inner)  # type: ignore[misc]
        return self

    # -- items to vectors and back -----------------------------------------------------------------

    def encode(self, item: Item) -> Tensor:
        """Item -> vector (D,)."""
        return self.encode_many([item])[0]

    def encode_many(self, items: Sequence[Item]) -> Tensor:
        """Items -> (B, D)."""
        return (
            self.flat(self.inner.encode_many(items)) if items else torch.empty(0, *self.spec.shape)
        )

    def decode(self, x: Tensor) -> Any:
        """Vector -> a raw value."""
        return self.decode_many(x[None])[0]

    def decode_many(self, x: Tensor) -> list[Any]:
        """(B, D) -> raw values."""
        return self.inner.decode_many(self.unflat(x.cpu()))

    def recoded(self, batches: Iterable[Any]) -> Iterator[Tensor]:
        """Items as the inner codec encodes them, batch by batch -> as this one does."""
        return map(self.flat, batches)

    def flat(self, x: Mapping[str, Tensor]) -> Tensor:
        """Parts -> (B, D)."""
        masks = self.parts.mask(x)
        columns = []
        for name, part in self.parts:
            value, mask = x[name], masks[name]
            if part.kind == "token":
                value = one_hot(value, part.vocab_size or 1).float() * 2 - 1  # (B, *shape, V)
                mask = mask[..., None] if mask is not None else None
            value = value if mask is None else value.masked_fill(~mask, 0.0)
            columns.append(value.flatten(1)[:, _kept(part)])
        return torch.cat(columns, 1)

    def unflat(self, x: Tensor) -> dict[str, Tensor]:
        """(B, D) -> parts: the nearest item, in its canonical form."""
        found, start = {}, 0
        for name, part in self.parts:
            own = x[:, start : start + _width(part)]
            start += _width(part)
            if part.kind == "token":
                scores = x.new_full((len(x), part.num_values * (part.vocab_size or 1)), -torch.inf)
                scores[:, _kept(part)] = own
                found[name] = scores.view(len(x), *part.shape, part.vocab_size or 1).argmax(-1)
            else:
                value = own.reshape(len(x), *part.shape).clamp(-1, 1)
                found[name] = part.dequantise(part.quantise(value)) if part.levels else value
        return self.parts.canonical(found)

    def num_units(self, x: Tensor) -> Tensor:
        """As the inner codec counts them."""
        units: Tensor = self.inner.num_units(self.unflat(x))
        return units

    @property
    def values(self) -> Callable[[Tensor], list[Values]]:
        """What encoded items have in each column, where the inner codec has any."""
        inner = self.inner
        if not isinstance(inner, HasColumns):
            raise AttributeError("values")
        return lambda x: inner.values(self.unflat(x))

    # -- disk --------------------------------------------------------------------------------------

    @property
    def digest(self) -> str:
        """What tells this encoding from others of the same items."""
        return "flat"

    def state(self) -> dict[str, Any]:
        """The inner codec, as JSON."""
        return {"inner": describe_codec(self.inner)}

    def tensors(self) -> dict[str, Tensor]:
        """The inner codec's."""
        return codec_tensors(self.inner)

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> FlatCodec:
        """Inverse of `state` and `tensors`. Never imports what the state names by a dotted path."""
        return cls(rebuild_codec(state["inner"], tensors))


def _kept(part: TensorSpec) -> slice | Tensor:
    """Which of a part's columns, one-hot where it is of tokens, can be other than nothing."""
    allowed = part.allowed
    return slice(None) if allowed is None else allowed.flatten().nonzero()[:, 0]


def _width(part: TensorSpec) -> int:
    """How many columns a part takes."""
    if part.kind == "real":
        return part.num_values
    return sum(part.sizes) if part.sizes else part.num_values * (part.vocab_size or 1)
