r"""Lay items out on a plane, near each other where the model finds them alike.

    pca    the two directions of largest variance of the features (Pearson 1901)
    tsne   neighbours kept, from the first 50 principal components (van der Maaten & Hinton 2008);
           distances between far groups mean nothing

The features themselves are told with `vectors`; of models that place texts among items, how near
each item is to each of `texts`: the cosine between them, from -1 to 1. Fewer than three items make
no map.

"auto" takes t-SNE from 30 items on, where scikit-learn is installed.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Literal

import torch
from torch import Tensor

from morphogen.core.capability import CanEncode, HasFeatures, HasTextFeatures, missing
from morphogen.core.encoded import num_items
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.result import Result
from morphogen.tasks._directions import principal_directions
from morphogen.tasks._routes import Conditions, choose, in_chunks

FEWEST_FOR_TSNE = 30


def embed(
    model: HasFeatures | CanEncode,
    x: Any,
    *,
    cond: Conditions | None = None,  # not used: items are placed by what they are
    generator: torch.Generator,
    method: Literal["auto", "pca", "tsne"] = "auto",  # how features become two numbers
    vectors: bool = False,  # tell the features of each item, and of each text
    texts: list[str] | None = None,  # to place among the items, with models that can
    route: Literal["features", "encode"] | None = None,  # force a way; none takes the first
) -> Result:
    """Lay items out on a plane by the model's features or latents."""

    def by_features(m: HasFeatures) -> Tensor:
        features: Tensor = in_chunks(lambda part, _: m.features(part), x)
        return features.flatten(1)

    def by_latents(m: CanEncode) -> Tensor:
        z: Tensor = in_chunks(lambda part, _: m.encode(part), x).flatten(1)
        if m.latent_spec.kind == "token":  # how often each code occurs
            return torch.nn.functional.one_hot(z, m.latent_spec.vocab_size or 1).sum(1)
        return z

    num = num_items(x)
    if num < 3 and not (vectors or texts):
        raise RecipeError(
            "a map needs at least three items",
            found=num, expected=">= 3", hint="--set vectors=yes, for the features alone",
        )  # fmt: skip
    name, run = choose(model, {"features": by_features, "encode": by_latents}, route)
    found = run()
    values = _told(model, found, vectors, texts)
    if num < 3:
        return Result(None, values, name)
    features = found.double().cpu()
    enough = num >= FEWEST_FOR_TSNE and importlib.util.find_spec("sklearn") is not None
    chosen = method if method != "auto" else "tsne" if enough else "pca"
    positions = principal(features, 2) if chosen == "pca" else _tsne(features, generator)
    across, up = positions.unbind(1)
    values |= {"across": across.tolist(), "up": up.tolist()}
    return Result(x, values, f"{name}, {chosen}", positions=positions)


def _told(model: Any, features: Tensor, vectors: bool, texts: list[str] | None) -> dict[str, Any]:
    """What is said of features (N, D) beside where they lie."""
    values: dict[str, Any] = {"vectors": features.tolist()} if vectors else {}
    if texts is None:
        return values
    if missing(model, HasTextFeatures):
        raise RefusedPair(
            "only models that were trained on items with their texts place texts among them",
            found=f"{type(model).__name__} has no {', '.join(missing(model, HasTextFeatures))}",
            hint="leave texts out, or import such a model: docs/published.md",
        )
    told = model.text_features(texts)
    values |= {"texts": texts, "near": (features @ told.T).tolist()}
    return values | ({"text_vectors": told.tolist()} if vectors else {})


def principal(features: Tensor, num: int) -> Tensor:
    """Coordinates on the first `num` principal directions: (N, D) -> (N, num)."""
    return principal_directions(features, num).scores


def _tsne(features: Tensor, generator: torch.Generator) -> Tensor:
    """t-SNE started from the principal directions."""
    from sklearn.manifold import TSNE

    reduced = principal(features, min(50, *features.shape))
    perplexity = max(2.0, min(30.0, (len(reduced) - 1) / 3))
    seed = int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))
    if len(reduced) <= perplexity:
        raise RecipeError("too few items for t-SNE", found=len(reduced), expected="method=pca")
    start = reduced[:, :2] / reduced[:, 0].std().clamp(min=1e-12) * 1e-4
    start = torch.nn.functional.pad(start, (0, 2 - start.shape[1]))
    tsne = TSNE(perplexity=perplexity, init=start.float().numpy(), random_state=seed)
    return torch.from_numpy(tsne.fit_transform(reduced.float().numpy())).double()
