"""Generated and real items for metrics of one field, texts or molecules; or why they are none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch

from morphogen.core import discover
from morphogen.core.encoded import Encoded
from morphogen.core.metric import Items, References, Sets, kind_of
from morphogen.data.dataset import Data
from morphogen.modalities.text.page import readable

Builder = Callable[[], Sets]
TEXT = "text"  # what items are that are strings, where their codec does not say otherwise


def given_of_fields(
    given: Mapping[type[Sets], Builder | str], asked: Iterable[str], data: Data
) -> dict[type[Sets], Builder | str]:
    """What metrics of a field ask for, from what there is of items. References of a field need
    something said of each that is its own, not of a class."""
    some = data.codec.decode_many(data.test.batch(torch.arange(1)).x)
    written = isinstance(some[0], str)
    held = data.codec.innermost.holds or (TEXT if written else "")

    def decode(x: Encoded) -> list[Any]:
        values = data.codec.decode_many(x)
        return list(map(readable, values)) if written else values

    def of(kind: Any, wide: type[Sets]) -> Builder | str:
        if kind.of != held:
            return f"these items are no {kind.of}s"
        if wide is References and all(data.conditions[name].is_label for name in asked):
            return f"no {kind.of} is asked for by more than a label"
        build = cast(Builder, given[wide])
        return lambda: cast(Sets, kind(**{**vars(build()), "decode": decode}))

    kinds = [kind_of(discover.find("metric", name)) for name in discover.names("metric")]
    return {
        kind: of(kind, References if issubclass(kind, References) else Items)
        for kind in kinds
        if getattr(kind, "of", "")
    }
