"""Which of a codec's encodings is used: the one asked for, or the first that a family takes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from morphogen.core.codec import Codec
from morphogen.core.errors import RecipeError, did_you_mean
from morphogen.core.spec import ProductSpec
from morphogen.wrappers.flat_codec import FlatCodec

FLAT = "flat"  # the view that every codec of parts has: see `wrappers.flat_codec`
# (spec, conditions) -> None where they fit; else why not, such as `Family.refusal`.
Suits = Callable[[Any, Mapping[str, Any]], Any]


def view_of(codec: Codec, name: str) -> Codec:
    """The fitted codec in another view; the one given stays as it is. Raises `RecipeError`."""
    if name == codec.view:
        return codec
    if codec.viewed is not codec:
        return view_of(codec.viewed, name)
    known = views_of(codec)
    if name == FLAT and name not in codec.views and name in known:
        parts = next(each for each in map(_in_view(codec), codec.views) if _has_parts(each))
        return FlatCodec(parts)
    if name not in known:
        raise RecipeError(
            f"{type(codec).__name__} has no view {name!r}.{did_you_mean(name, known)}",
            found=name,
            expected=", ".join(known) or "data of this modality is encoded in one way only",
            hint="--set modality.view=NAME",
        )
    return _in_view(codec)(name)


def views_of(codec: Codec) -> list[str]:
    """The views of a fitted codec by name, the preferred first."""
    codec = codec.viewed
    named = [name for name in codec.views if name]
    parts = any(_has_parts(each) for each in map(_in_view(codec), codec.views))
    return [*named, *([FLAT] if parts and FLAT not in named else [])]


def choose_view(codec: Codec, view: str | None = None, suits: Suits | None = None) -> Codec:
    """The fitted codec in the `view` asked for; else in the first that `suits`. Where none does, as
    it is: who asked says why."""
    if view is not None:
        return view_of(codec, view)
    if suits is None or suits(codec.spec, codec.conditions) is None:
        return codec
    for name in views_of(codec):
        other = view_of(codec, name)
        if suits(other.spec, other.conditions) is None:
            return other
    return codec


def _in_view(codec: Codec) -> Callable[[str], Codec]:
    def seen(name: str) -> Codec:
        return codec if name == codec.view else copy.copy(codec).use_view(name)

    return seen


def _has_parts(codec: Codec) -> bool:
    return isinstance(codec.spec, ProductSpec)
