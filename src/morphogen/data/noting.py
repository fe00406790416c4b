"""What is said of the training items, noted as they go by on the way to a codec that is fitted."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from morphogen.core.codec import Codec, Item
from morphogen.core.following import CanDerive, ComesWith
from morphogen.data.halves import said_of
from morphogen.data.names import Repeated
from morphogen.sources import Coded, RecordBatch, RecordBatches, combined

LABEL = "label"
EVERY, NOTHING = "all", "none"  # words in place of names
ITSELF = "itself"  # the item, for a model to read
MOST_LOOKED_AT = 2000  # values of a column that codecs are asked about
MOST_MADE = 64  # conditions that are made of items before their codec is chosen


def noting(items: Iterable[Item], said: Any, wanted: str | None, codec: Codec) -> Iterator[Item]:
    """Pass items on, and append to `said` what is said of each: of the first ones all, as a help to
    who asks for what there is not, then what is `wanted`, as `fit_conditions` has it."""
    names = [LABEL, *comes_with(codec)] if wanted is None else list(names_in(wanted))
    made = [] if wanted is None else [name for name in names if name in derives(codec)]
    if isinstance(items, RecordBatches):
        return RecordBatches(_noting_batches(items.batches(), said, names, made))
    return _noting(items, said, names, made)


def _noting_batches(
    batches: Iterable[Sequence[Item]], said: Any, names: Sequence[str], made: Sequence[str]
) -> Iterator[Sequence[Item]]:
    for some in batches:
        if isinstance(some, RecordBatch) and len(said) >= MOST_LOOKED_AT and names != [EVERY]:
            rows = combined([some.said(name) for name in names], len(some))
            named = (zip(names, row, strict=True) for row in rows.values)
            known = [{n: value for n, value in row if value is not None} for row in named]
            column = Coded(known, rows.codes)
            if isinstance(said, Repeated):
                said.extend(column)
            else:
                said += column.each()
        else:
            deque(_noting(some, said, names, made), maxlen=0)
        yield some


def _noting(
    items: Iterable[Item], said: Any, names: Sequence[str], made: Sequence[str]
) -> Iterator[Item]:
    for number, item in enumerate(items, len(said)):
        known = {**item.tags, **item.cond}
        if made and number < MOST_MADE:
            known |= {name: Made(item.value) for name in made if not is_said(known.get(name))}
        if list(names) != [EVERY] and number >= MOST_LOOKED_AT:
            values = {name: said_of(name, known) for name in names}
            known = {name: value for name, value in values.items() if value is not None}
        said.append(known)
        yield item


@dataclass(frozen=True)
class Made:
    """A condition that is yet to be made of an item, when its codec is fitted."""

    of: Any  # the item's raw value


def is_said(value: Any) -> bool:
    """Whether a cell says anything: not None, not empty, not NaN."""
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def comes_with(codec: Codec) -> tuple[str, ...]:
    """What items of a codec always come with."""
    return codec.comes_with if isinstance(codec, ComesWith) else ()


def derives(codec: Codec) -> tuple[str, ...]:
    """What can be made of the items themselves: what their codec makes, and the item as it is."""
    inner = codec.innermost
    return (*(inner.derives if isinstance(inner, CanDerive) else ()), ITSELF)


def derived(codec: Codec, name: str, value: Any) -> Any:
    """What `derives` names, of one raw item."""
    inner: Any = codec.innermost
    return value if name == ITSELF else inner.derived(name, value)


def names_in(wanted: str) -> dict[str, str | None]:
    """The names in "label,caption=models/minilm", each with the bundle that is to read it."""
    found: dict[str, str | None] = {}
    for each in filter(None, map(str.strip, wanted.split(","))):
        name, _, encoder = each.partition("=")
        found[name.strip()] = encoder.strip() or None
    return found
