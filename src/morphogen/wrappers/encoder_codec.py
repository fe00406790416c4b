r"""A trained model as the reader of a condition: frozen, what it makes of an item is the condition.

    encode(item) = [(pooled - m_0) / s_0, (h_1 - m) / s, .., (h_N - m) / s, 0, .. 0]    (D, 1 + L)

for a model that tells of each position (a text encoder), N <= L; a model that gives one vector for
an item gives that alone: what its stages see, where it tells that, else its features, or a latent.
All is scaled by what the training items have, as encoders differ by a hundred in the size of what
they give: by one number, or feature by feature where stages differ as much from each other. A few
hundred captions teach no network what words mean; an encoder that has read more does (Saharia et
al. 2022, arXiv:2205.11487, for pictures). `--condition caption=models/minilm` reads captions so.

Items are read once, when the data is encoded: training costs nothing more. The model goes into the
bundle that is trained, which stays whole.

Legend: B batch, D features, N positions of an item, L the most of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.capability import (
    CanEncode,
    HasFeatures,
    HasPositionFeatures,
    HasStageFeatures,
    missing,
)
from morphogen.core.codec import Codec, Item
from morphogen.core.codec_storage import codec_tensors
from morphogen.core.config import describe, rebuild
from morphogen.core.errors import DataError, RefusedPair
from morphogen.core.family import Family
from morphogen.core.following import ChecksAsked
from morphogen.core.recipe import Recipe
from morphogen.core.spec import TensorSpec
from morphogen.core.storage import below
from morphogen.wrappers._around import CodecAround, seen_in

MOST_POSITIONS = 48  # of an item that are kept: what follows is in the pooled vector alone
BATCH = 64
MOST_MEASURED = 512  # items of which the features are measured
LEAST_SPREAD = 1e-4  # of features: below it the model does not use them
MOST_SPREADS = 6.0  # of what stages see: beyond, it is cut, for features that hardly ever stir


class EncoderCodec(CodecAround):
    """Encodes items to the features of a trained model, which is put in evaluation mode.

    Of a model of several stages it gives what all of them see, or the last alone (not `stages`).
    Raises `RefusedPair` for a model that has neither features nor latents.
    """

    def __init__(self, inner: Codec, model: Family, recipe: Recipe, stages: bool = True) -> None:
        if missing(model, HasFeatures) and missing(model, CanEncode):
            raise RefusedPair(
                f"{type(model).__name__} reads nothing: it has no features and no latents",
                expected="an encoder, such as published/minilm, or a model with a latent space",
                hint="morphogen import models/published/minilm --out models/minilm",
            )
        super().__init__(inner)
        self.model, self.recipe = model.eval().requires_grad_(False), recipe
        tells = not missing(model, HasStageFeatures) and missing(model, HasPositionFeatures) != []
        self.stages = stages and tells
        self.mean, self.spread_of = torch.zeros(0), torch.ones(0)

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """A bundle as a reader; `fit` it to the training items before use."""
        return cls(bundle.codec, bundle.family, bundle.recipe)

    # -- learning ----------------------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> EncoderCodec:
        """Measure how long items are, and what the features of the first are like. The model
        stays."""
        pooled, states, longest, beyond = [], [], 0, 0
        for number, chunk in enumerate(_chunks(items)):
            if number * BATCH < MOST_MEASURED:
                vectors, sequence, real = self._read(chunk)
                pooled.append(vectors)
                if sequence is not None and real is not None:
                    states.append(sequence[real])
                    longest = max(longest, int(real.any(0).sum()))
                    beyond = max(beyond, int(real.any(0).sum()) - self._longest(chunk))
            elif longest:  # how many positions come before the item's own, the model has said
                longest = max(longest, self._longest(chunk) + beyond)
        if not pooled:
            raise DataError("there is nothing to read", found="no items")
        groups = [torch.cat(each) for each in (pooled, states) if each]
        self.mean = torch.stack([each.mean(0) for each in groups], 1)  # (D, 1) or (D, 2)
        squares = [(each - each.mean(0)).square().mean(0) for each in groups]  # (D,) of each
        # One number for all features: which are large is what the model has learned. Not so of
        # stages: each has a size of its own.
        spread = [each if self.stages else each.mean() for each in squares]
        self.spread_of = torch.stack([each.sqrt().clamp(min=LEAST_SPREAD) for each in spread])
        return self._sized(min(longest, MOST_POSITIONS))

    def _longest(self, items: Sequence[Item]) -> int:
        return int(self.inner.spec.num_real(self.inner.encode_many(items)).max())

    def _sized(self, length: int) -> EncoderCodec:
        dim = len(self.mean)
        if length:
            self.spec = TensorSpec("real", (dim, 1 + length), layout="sequence")
        else:
            self.spec = TensorSpec.vector(dim)
        return self

    # -- reading -----------------------------------------------------------------------------------

    def encode(self, item: Item) -> Tensor:
        """Item -> its features, scaled."""
        return self.encode_many([item])[0]

    def encode_many(self, items: Sequence[Item]) -> Tensor:
        """Items -> (B, *spec.shape)."""
        parts = [self._encoded(items[i : i + BATCH]) for i in range(0, len(items), BATCH)]
        return torch.cat(parts) if parts else torch.empty(0, *self.spec.shape)

    def _encoded(self, items: Sequence[Item]) -> Tensor:
        pooled, states, real = self._read(items)
        found = (pooled - self.mean[:, 0]) / self.spread_of[0]
        if self.stages:
            found = found.clamp(-MOST_SPREADS, MOST_SPREADS)
        if self.spec.layout == "vector" or states is None or real is None:
            return found
        length = self.spec.shape[1] - 1
        own = (states - self.mean[:, 1]) / self.spread_of[1] * real[..., None]
        own = F.pad(own[:, :length], (0, 0, 0, max(length - states.shape[1], 0)))
        return torch.cat([found[:, None], own], dim=1).transpose(1, 2).contiguous()

    @torch.no_grad()
    def _read(self, items: Sequence[Item]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What the model makes of items: (B, D), and (B, N, D) with its mask where it tells."""
        model: Any = self.model
        x = self.inner.encode_many(items).to(self.model.device)
        pooled = seen_in(model, x, stages=self.stages)
        if missing(self.model, HasPositionFeatures):
            return pooled, None, None
        states, real = model.position_features(x)
        return pooled, states.float().cpu(), real.cpu()

    def decode(self, x: Tensor) -> Any:
        """Never: what was read is not kept."""
        raise RefusedPair(
            "what a frozen encoder has read cannot be told again", found=str(self.spec)
        )

    def reread(self, x: Tensor, by: Codec) -> Tensor | None:
        """Items as another reader by the same model encoded them, scaled by its own items and up to
        its own length -> as this one does. (N, *by's shape) -> (N, *shape), or None."""
        if not (isinstance(by, EncoderCodec) and self.spec.layout == by.spec.layout):
            return None
        if self.stages != by.stages:
            return None
        own, other = self._reads_by(), by._reads_by()
        if own.keys() != other.keys() or not all(torch.equal(own[n], other[n]) for n in own):
            return None
        flat = self.spec.layout == "vector"
        x = x[..., None] if flat else x  # (N, D, 1 + L)
        which = torch.zeros(x.shape[2], dtype=torch.long)
        which[1:] = 1  # the mean and the spread of positions, where the first is of the whole
        spread, size = (each[which].movedim(0, -1) for each in (by.spread_of, self.spread_of))
        raw = x * spread + by.mean[:, which]  # each (1 + L,), or (D, 1) of stages
        again = (raw - self.mean[:, which]) / size
        again[:, :, 1:] *= x[:, :, 1:].any(1, keepdim=True)  # nothing stands where nothing stood
        if flat:
            return again[..., 0]
        length = self.spec.shape[1]
        return F.pad(again[:, :, :length], (0, max(length - x.shape[2], 0)))

    def _reads_by(self) -> dict[str, Tensor]:
        """The weights of the model, and what its codec learned."""
        return {n: value for n, value in self.tensors().items() if n not in ("mean", "spread")}

    def is_one(self, value: Any) -> bool:
        """As the inner codec knows it."""
        return self.inner.is_one(value)

    def check_asked(self, value: Any) -> None:
        """As the inner codec has it."""
        if isinstance(self.inner, ChecksAsked):
            self.inner.check_asked(value)

    def parse(self, text: str) -> Any:
        """As the inner codec reads it."""
        return self.inner.parse(text)

    def spread(self, x: Any) -> str:
        """What it reads by."""
        return f"{self.spec} by a frozen {type(self.model).__name__}"

    # -- disk --------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The inner codec, the recipe and specs that rebuild the model, the length. JSON."""
        length = 0 if self.spec.layout == "vector" else self.spec.shape[1] - 1
        about = describe(self.model, self.inner, self.recipe)
        return {**about, "length": length, "stages": self.stages}

    def tensors(self) -> dict[str, Tensor]:
        """The model's weights, the inner codec's, and the statistics."""
        named = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        named |= {f"inner.{name}": tensor for name, tensor in codec_tensors(self.inner).items()}
        return {**named, "mean": self.mean, "spread": self.spread_of}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> EncoderCodec:
        """Inverse of `state` and `tensors`."""
        weights = below("model.", tensors)
        about = {n: value for n, value in state.items() if n not in ("length", "stages")}
        model, inner, recipe = rebuild(about, below("inner.", tensors), weights)
        model.load_state_dict(weights)
        # A bundle of before stages were read does not tell of them.
        codec = cls(inner, model, recipe, stages=state.get("stages", False))
        codec.mean, codec.spread_of = tensors["mean"], tensors["spread"]
        return codec._sized(int(state["length"]))


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    left = iter(items)
    while chunk := list(islice(left, BATCH)):
        yield chunk
