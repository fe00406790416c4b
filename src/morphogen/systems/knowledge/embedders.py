"""Texts to vectors of length 1: by a bundle that has features or latents, or a model behind an
address. An index remembers who embedded it, and takes no one else's vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from morphogen.core.bundle import Bundle
from morphogen.core.capability import CanEncode, HasFeatures, missing
from morphogen.core.codec import Item
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.origin import hash_of
from morphogen.interop.importing import opened_or_imported
from morphogen.systems.endpoint import Endpoint, is_address
from morphogen.systems.knowledge.vectors import Floats, of_length_one

DEFAULT = "models/published/minilm"  # where `make models` puts it
BATCH = 32  # texts that are embedded at once


class Embedder(Protocol):
    """Gives texts vectors."""

    name: str  # to find it by: a bundle's folder, or an address and a model
    digest: str  # of its weights, or of what names it where these are elsewhere
    dim: int

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, D), each of length 1."""
        ...


class BundleEmbedder:
    """A trained or imported model: its features, else its latents.

    Raises `RefusedPair` for a model that gives neither, or takes no texts.
    """

    def __init__(self, bundle: Bundle | Path | str) -> None:
        opened = bundle if isinstance(bundle, Bundle) else opened_or_imported(bundle)
        place = opened.path if isinstance(bundle, Bundle) else bundle
        self.bundle, self.name = opened, str(place or "a model in memory")
        self.model: Any = opened.family
        if missing(self.model, HasFeatures) and missing(self.model, CanEncode):
            raise RefusedPair(
                "this model gives no vectors", found=type(self.model).__name__,
                expected="an encoder, such as published/minilm, or a model with a latent space",
            )  # fmt: skip
        self.digest = hash_of(opened)
        self.dim = self.embed(["a"]).shape[1]

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, D). Texts of about one length are computed together."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = [np.zeros(0, np.float32)] * len(texts)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            for i, vector in zip(chosen, self._vectors([texts[i] for i in chosen]), strict=True):
                found[i] = vector
        return of_length_one(np.stack(found))

    def _vectors(self, texts: Sequence[str]) -> Floats:
        parts = [self.bundle.encode(Item(text or " ", "a text")) for text in texts]
        x = torch.cat(parts).to(self.model.device)
        with torch.no_grad():
            if missing(self.model, HasFeatures):
                vectors = self.model.encode(x)
            else:
                vectors = self.model.features(x)
        told: Floats = vectors.flatten(1).float().cpu().numpy()
        return told


class NoEmbedder:
    """Knows no meaning: an index that is searched by words alone."""

    name = digest = "words"
    dim = 0

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, 0)."""
        return np.zeros((len(texts), 0), np.float32)


def default_embedder() -> Embedder:
    """The published encoder, where it was fetched; else none."""
    return BundleEmbedder(DEFAULT) if Path(DEFAULT).is_dir() else NoEmbedder()


def embedder_of(name: str, model: str | None = None) -> Embedder:
    """By a bundle's folder, an address (with the name of a model there), or "words": by none."""
    if name == NoEmbedder.name:
        return NoEmbedder()
    if is_address(name):
        address, _, named = name.partition(" ")
        if not (model or named):
            raise RecipeError(
                "a model at an address has a name", found=name, expected="--name NAME"
            )
        return RemoteEmbedder(address, model or named)
    return BundleEmbedder(name)


class RemoteEmbedder:
    """A model behind an address that speaks OpenAI's protocol: POST ADDRESS/embeddings."""

    def __init__(
        self,
        address: str,
        model: str,
        *,
        key_from: str = "OPENAI_API_KEY",  # environment variable with the key, where one is asked
        seconds: float = 120.0,  # that an answer may take
    ) -> None:
        self.endpoint = Endpoint(address, model, key_from=key_from, seconds=seconds)
        self.name = self.digest = f"{self.endpoint.address} {model}"
        self.dim = self.embed(["a"]).shape[1]

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, D). Raises `MorphogenError` where the model does not answer."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        starts = range(0, len(texts), BATCH)
        parts = [self.endpoint.vectors(texts[i : i + BATCH]) for i in starts]
        return of_length_one(np.array([each for part in parts for each in part], np.float32))
