r"""A trained model as a codec: its latents are the data that the next model learns.

    encode(item) = (model.encode(inner.encode(item)) - mean) / std
    decode(x)    = inner.decode(model.decode(x std + mean))

Real latents are standardised channel by channel with the statistics of the training split, because
a Gaussian path ends at unit variance (Rombach et al. 2022, arXiv:2112.10752). Token latents are
left alone. So `--family flow_matching --through models/vae` is latent diffusion, and `--family
autoregressive --through models/vq` is VQ + transformer (Esser et al. 2021), with no new family.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from morphogen.core.bundle import SAMPLE_BATCH, Bundle
from morphogen.core.capability import CanReconstruct, missing
from morphogen.core.codec import Codec, Item
from morphogen.core.codec_storage import codec_tensors
from morphogen.core.config import describe, rebuild
from morphogen.core.errors import DataError, RefusedPair
from morphogen.core.family import Family
from morphogen.core.recipe import Recipe
from morphogen.core.spec import TensorSpec
from morphogen.core.storage import below
from morphogen.wrappers._around import CodecAround

LEAST_STD = 1e-4  # of a channel: below it the model does not use the channel, and noise would grow


class LatentCodec(CodecAround):
    """Encodes items to the latents of a trained model. Puts that model in evaluation mode."""

    def __init__(self, inner: Codec, model: Family, recipe: Recipe) -> None:
        if lacking := missing(model, CanReconstruct):
            raise RefusedPair(
                f"{type(model).__name__} is no codec: it has no {', '.join(lacking)}",
                expected="a model that encodes and decodes",
                hint="train --family vae (real latents) or --family vq_vae (tokens) first",
            )
        super().__init__(inner)
        self.model, self.recipe = model.eval(), recipe
        self.family = model.prior_family or self.family
        coder: Any = model
        latent_spec: TensorSpec = coder.latent_spec
        self.spec = replace(latent_spec, levels=None)
        self.mean = torch.zeros(latent_spec.channels)
        self.std = torch.ones(latent_spec.channels)
        self.is_fitted = False

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> LatentCodec:
        """A trained bundle as a codec; `fit` it to the training split before use."""
        return cls(bundle.codec, bundle.family, bundle.recipe)

    # -- learning ----------------------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> LatentCodec:
        """Measure mean and standard deviation of every channel. The inner codec stays as it is."""
        encoded = (self.inner.encode_many(chunk) for chunk in _chunks(items))
        return self.measure(self.latents([x]) for x in encoded)

    def measure(self, batches: Iterable[Tensor]) -> LatentCodec:
        """Take mean and standard deviation of every channel from raw latents, batch by batch."""
        self.is_fitted = True
        if self.spec.kind == "token":
            return self
        count, mean, squares = 0, torch.zeros(()).double(), torch.zeros(()).double()
        for z in batches:  # joined as by Chan et al. (1979)
            values = z.double().movedim(1, 0).flatten(1)  # (C, values)
            num, own = values.shape[1], values.mean(1)
            apart = own - mean
            squares = squares + (values - own[:, None]).square().sum(1)
            squares = squares + apart.square() * (count * num / (count + num))
            mean, count = mean + apart * (num / (count + num)), count + num
        if not count:
            raise DataError("there is nothing to measure the latents on", found="no items")
        self.mean = mean.float()
        self.std = (squares / count).sqrt().clamp(min=LEAST_STD).float()
        return self

    # -- items to latents and back -----------------------------------------------------------------

    def encode(self, item: Item) -> Tensor:
        """Item -> standardised latent."""
        return self.encode_many([item])[0]

    def encode_many(self, items: Sequence[Item]) -> Tensor:
        """Items -> (B, *latent shape), batch by batch."""
        if not items:
            dtype = torch.int64 if self.spec.kind == "token" else torch.float32
            return torch.empty(0, *self.spec.shape, dtype=dtype)
        encoded = (self.inner.encode_many(chunk) for chunk in _chunks(items))
        return self.standardised(self.latents(encoded))

    @torch.no_grad()
    def latents(self, batches: Iterable[Tensor]) -> Tensor:
        """Items as the inner codec encodes them -> latents as the model gives them, on the CPU."""
        coder: Any = self.model
        encoded = [coder.encode(x.to(self.model.device)).cpu() for x in batches]
        return torch.cat(encoded) if encoded else torch.empty(0, *self.spec.shape)

    def recoded(self, batches: Iterable[Any]) -> Iterator[Tensor]:
        """Items as the inner codec encodes them, batch by batch -> as this one does."""
        return (self.standardised(self.latents([x])) for x in batches)

    def standardised(self, z: Tensor) -> Tensor:
        """Raw latents to zero mean and unit variance per channel; tokens as they are."""
        if self.spec.kind == "token":
            return z
        return (z - self._wide(self.mean)) / self._wide(self.std)

    def decode(self, x: Tensor) -> Any:
        """Standardised latent -> a raw value."""
        return self.decode_many(x[None])[0]

    def decode_many(self, x: Tensor) -> list[Any]:
        """(B, *latent shape) -> raw values."""
        return [value for z in torch.split(x, SAMPLE_BATCH) for value in self._decode_batch(z)]

    @torch.no_grad()
    def _decode_batch(self, x: Tensor) -> list[Any]:
        coder: Any = self.model
        z = x.cpu()
        if self.spec.kind == "real":
            z = z * self._wide(self.std) + self._wide(self.mean)
        decoded = coder.grained(coder.decode(z.to(self.model.device))).cpu()
        return self.inner.decode_many(decoded.clamp(-1, 1) if self.inner.spec.levels else decoded)

    def _wide(self, channel: Tensor) -> Tensor:
        """(C,) -> broadcastable against (B, C, *space)."""
        return channel.view(1, -1, *(1,) * len(self.spec.space))

    # -- disk --------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The inner codec, and the recipe and specs that rebuild the model. JSON."""
        return describe(self.model, self.inner, self.recipe)

    def tensors(self) -> dict[str, Tensor]:
        """The model's weights, the inner codec's, and the statistics."""
        named = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        named |= {f"inner.{name}": tensor for name, tensor in codec_tensors(self.inner).items()}
        return {**named, "mean": self.mean, "std": self.std}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LatentCodec:
        """Inverse of `state` and `tensors`."""
        weights = below("model.", tensors)
        model, inner, recipe = rebuild(state, below("inner.", tensors), weights)
        model.load_state_dict(weights)
        codec = cls(inner, model, recipe)
        codec.mean, codec.std = tensors["mean"], tensors["std"]
        codec.is_fitted = True
        return codec


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Lists of at most SAMPLE_BATCH items."""
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == SAMPLE_BATCH:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
