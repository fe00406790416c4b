"""Files that are said of items, as pictures of their captions: who reads them, and what they hold.

The codec that recognises such a file reads it, as a condition of the item. It is called as the
source calls it (the column that names it), or by the modality that reads it: `image`, `audio`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from morphogen.core import discover
from morphogen.core.codec import Codec, Item, Recognition
from morphogen.core.errors import DataError
from morphogen.sources import Half, kept_surveys

MOST_ASKED = 8  # files by which the codec is chosen


def half_of(said: Mapping[str, Any]) -> Half | None:
    """The file that belongs to an item, of all that is said of it."""
    return next((value for value in said.values() if isinstance(value, Half)), None)


def said_of(name: str, said: Mapping[str, Any]) -> Any:
    """What is said of an item as `name`, where a modality's name means the file that is of it."""
    if name in said or name not in _modalities(os.environ.get("MORPHOGEN_PLUGINS")):
        return said.get(name)
    return half_of(said)


@cache
def _modalities(plugins: str | None) -> frozenset[str]:
    """Their names, with those of the plugins: asked for every item."""
    return frozenset(discover.names("modality"))


def recognised(halves: Sequence[Half]) -> dict[str, Recognition]:
    """How sure each modality is that it reads the first few of these files."""
    found: dict[str, Recognition] = {}
    for half in halves[:MOST_ASKED]:
        with half.on_disk() as path, kept_surveys():
            for modality in discover.names("modality"):
                told = discover.find("modality", modality).recognises(path)
                best = found.get(modality)
                if told is not None and (best is None or told.sure > best.sure):
                    found[modality] = told
    return found


def opened(codec: Codec, value: Any) -> Any:
    """A raw value as `codec` takes it: what a file holds, or what it is already. Raises `DataError`
    for a file that holds anything but one item."""
    if not isinstance(value, Half):
        return value
    with value.on_disk() as path:
        items = codec.read_inputs(path)
    if len(items) != 1:
        raise DataError(
            "what is said of an item is one item of another kind",
            found=f"{len(items):,} in {value.name}",
            expected="a file of one",
        )
    return items[0].value


def opened_items(codec: Codec, values: Iterable[Any]) -> Iterator[Item]:
    """Raw values one by one, for `codec` to be fitted to; files that cannot be read are left out:
    encoding tells of them."""
    for value in values:
        try:
            yield Item(opened(codec, value))
        except DataError:
            continue
