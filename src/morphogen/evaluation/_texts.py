"""Generated and real items as texts, for the metrics that ask for them; or why they are none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch

from morphogen.core.encoded import Encoded
from morphogen.core.metric import Items, References, Sets, TextReferences, Texts
from morphogen.data.dataset import Data
from morphogen.modalities.text.page import readable

Builder = Callable[[], Sets]


def given_texts(
    given: Mapping[type[Sets], Builder | str], asked: Iterable[str], data: Data
) -> dict[type[Sets], Builder | str]:
    """What there is of texts, from what there is of items. References of texts need something said
    of each that is its own, not of a class."""
    some = data.codec.decode_many(data.test.batch(torch.arange(1)).x)
    if not isinstance(some[0], str):
        return dict.fromkeys((Texts, TextReferences), "these items are no texts")

    def decode(x: Encoded) -> list[str]:
        return list(map(readable, data.codec.decode_many(x)))

    def of(kind: type[Sets], wide: type[Sets]) -> Builder:
        build = cast(Builder, given[wide])
        return lambda: kind(**{**vars(build()), "decode": decode})

    own: Any = [name for name in asked if not data.conditions[name].is_label]
    none = "no text is asked for by more than a label"
    return {
        Texts: of(Texts, Items),
        TextReferences: of(TextReferences, References) if own else none,
    }
