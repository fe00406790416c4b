"""Texts to vectors of length 1: by a bundle that has features or latents, or a model behind an
address. An index remembers who embedded it, and takes no one else's vectors."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from morphogen.core.border import check_shape
from morphogen.core.bundle import Bundle
from morphogen.core.capability import CanEncode, HasFeatures, missing
from morphogen.core.codec import Item
from morphogen.core.errors import MorphogenError, RecipeError, RefusedPair
from morphogen.core.origin import hash_of
from morphogen.interop.importing import opened_or_imported
from morphogen.systems.knowledge.vectors import Floats, of_length_one

DEFAULT = "models/published/minilm"  # where `make models` puts it
BATCH = 32  # texts that are embedded at once
MOST_ANSWER = 1 << 28  # bytes of a remote model's answer
ANSWER = {"data": [{"embedding": list, "index": int}]}


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
        self.bundle, self.name = opened, str(opened.path or "a model in memory")
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
    """The published encoder, where it was fetched. Raises `RecipeError` where not."""
    if not Path(DEFAULT).is_dir():
        raise RecipeError(
            "there is no model here that embeds texts", found=f"no {DEFAULT}",
            hint="make models; or --by a bundle or an address; or --by words, for words alone",
        )  # fmt: skip
    return BundleEmbedder(DEFAULT)


def embedder_of(name: str, model: str | None = None) -> Embedder:
    """By a bundle's folder, an address (with the name of a model there), or "words": by none."""
    if name == NoEmbedder.name:
        return NoEmbedder()
    if name.startswith(("http://", "https://")):
        address, _, named = name.partition(" ")
        if not (model or named):
            raise RecipeError(
                "a model at an address has a name", found=name, expected="--model NAME"
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
        self.address, self.model = address.rstrip("/"), model
        self.key_from, self.seconds = key_from, seconds
        self.name = self.digest = f"{self.address} {model}"
        self.dim = self.embed(["a"]).shape[1]

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, D). Raises `MorphogenError` where the model does not answer."""
        parts = [self._asked(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
        return (
            of_length_one(np.concatenate(parts)) if parts else np.zeros((0, self.dim), np.float32)
        )

    def _asked(self, texts: Sequence[str]) -> Floats:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.key_from):
            headers["Authorization"] = f"Bearer {key}"
        body = {"model": self.model, "input": list(texts), "encoding_format": "float"}
        place = f"{self.address}/embeddings"
        request = urllib.request.Request(place, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.seconds) as answer:
                told = json.loads(answer.read(MOST_ANSWER))
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise MorphogenError(
                "the model that embeds does not answer", found=str(error), where=place,
                hint=f"check the address, the model, and the key in {self.key_from}",
            ) from error  # fmt: skip
        check_shape(told, ANSWER, place)
        ordered = sorted(told["data"], key=lambda each: each["index"])
        return np.array([each["embedding"] for each in ordered], np.float32)
