"""What encoded items are put into, chunk by chunk, and how the chunks come about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from morphogen.core.codec import Item
from morphogen.core.encoded import Encoded, num_items, rows
from morphogen.core.spec import ProductSpec, Spec
from morphogen.data.disk import DiskStore, Filling, open_rows, parts_of
from morphogen.data.names import Repeated
from morphogen.data.scan import num_bytes
from morphogen.data.store import CHUNK, MemoryStore, Store, no_items
from morphogen.sources import RecordBatch, RecordBatches

CHUNK_BYTES = 1 << 25  # of raw items encoded at once, about


class InMemory:
    """Room in memory, set aside beforehand."""

    whole = 0

    def __init__(self, spec: Spec, count: int) -> None:
        self.spec, self.x, self.count = spec, no_items(spec, count), 0

    def add(self, x: Any) -> None:
        """Some more items, as they are stored."""
        here = slice(self.count, self.count + num_items(x))
        named = self.x if isinstance(self.x, dict) else {"": self.x}
        for name, part in named.items():
            part[here] = x[name] if name else x
        self.count = here.stop

    def finish(self, cond: Mapping[str, Encoded], names: Sequence[str]) -> Store:
        """The store."""
        return MemoryStore(self.spec, rows(self.x, slice(0, self.count)), cond, names)


class OnDisk:
    """Room in a folder. `whole` items are there already, where an earlier run was interrupted."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        self.spec, self.folder = spec, folder
        self.files = Filling(folder, parts_of(spec))
        self.whole = self.files.whole

    def add(self, x: Any) -> None:
        """Some more items, as they are stored."""
        named = x if isinstance(self.spec, ProductSpec) else {"x": x}
        self.files.add({name: part.flatten() for name, part in named.items()})

    def finish(self, cond: Mapping[str, Encoded], names: Sequence[str]) -> Store:
        """The store."""
        self.files.close()
        stored = open_rows(self.folder, self.spec, self.files.rows)
        return DiskStore(self.spec, stored, cond, names)


def chunks(items: Iterable[Item]) -> Iterator[Sequence[Item]]:
    """Items, as many at a time as are encoded at once: fewer where they are large."""
    if isinstance(items, RecordBatches):
        yield from items.batches()
        return
    chunk: list[Item] = []
    size = 0
    for item in items:
        chunk.append(item)
        size += num_bytes(item.value)
        if len(chunk) == CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def of_split(items: Iterable[Item], splits: Repeated, split: str) -> Iterator[Item]:
    """Of items and the splits of all of them, those of one."""
    if isinstance(items, RecordBatches):
        return RecordBatches(_of_split(items.batches(), splits, split))
    return (item for item, own in zip(items, splits, strict=True) if own == split)


def _of_split(
    batches: Iterable[Sequence[Item]], splits: Repeated, split: str
) -> Iterator[Sequence[Item]]:
    place = 0
    for some in batches:
        own = splits.codes[place : place + len(some)]
        place += len(some)
        index = np.flatnonzero(own == splits.code_of(split))
        if isinstance(some, RecordBatch) and len(index):
            yield some.take(index)
        elif len(index):
            yield [some[i] for i in index.tolist()]
    assert place == len(splits), f"{place:,} items read again of {len(splits):,}"
