"""A trained model between the items and what is learned: `--through BUNDLE`.

it encodes and decodes      its latents are learned in place of the items, and can be drawn
                            (`wrappers.latent_codec`)
it has features alone       what it sees in items is (`wrappers.feature_codec`)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.capability import CanReconstruct, missing
from morphogen.data.dataset import Data
from morphogen.data.views import Suits


def decodes(bundle: Bundle) -> bool:
    """Whether items can be had again from what the model makes of them."""
    return not missing(bundle.family, CanReconstruct)


def around(bundle: Bundle) -> Any:
    """A codec around that of a bundle, of the kind that its model is for."""
    kind = "latent_codec" if decodes(bundle) else "feature_codec"
    return discover.find("wrapper", kind).from_bundle(bundle)


def suits_model(bundle: Bundle) -> Suits:
    """What a trained model has against a spec: that it is not the one it was trained on. One that
    sees items as they are does not mind how they are encoded."""

    def refusal(spec: Any, conditions: Mapping[str, Any]) -> str | None:
        fits = spec == bundle.codec.spec or not decodes(bundle)
        return None if fits else f"it was trained on {bundle.codec.spec}"

    return refusal


def in_latents(data: Data, bundle: Bundle, varied: Mapping[str, Any] | None = None) -> Data:
    """The same items as the latents of a trained model, or as what it sees in them.

    What a family would be shown a little changed in each step is changed before it is seen: of its
    options `varied`, those of `core.varied.Variation` say how. Raises `RefusedPair` for a model
    that takes no such items.
    """
    codec = around(bundle)
    if not decodes(bundle):
        some = data.train.batch(torch.arange(min(2, len(data.train)))).x
        codec = codec.looking_at(data.codec, some, varied or {})
    return data.through(codec)
