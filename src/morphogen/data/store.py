"""The encoded items of one split, stored compactly: in memory, on disk, or as windows of a stream.

    MemoryStore    here: tensors, or a tensor for each part of an item
    DiskStore    `disk.py`: files in the cache folder
    windows        `windows.py`: of one long stream of tokens, in either of the two
    Packed       `packing.py`: documents side by side in windows, with what is learned of them
    Selection      some items of another store, in any order, not copied
    Varied         items of which training sees variants
    Joined         stores one after the other, not copied
    Begun          items that were begun before, of which some values count alone

All of them give batches by index and hash to the same digest for the same items. Nothing reads a
store whole: what needs every item goes through `chunks` or `batches`.

Legend: N items, B batch.
"""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.encoded import Encoded, joined, num_items, rows
from morphogen.core.spec import ProductSpec, Spec, TensorSpec

CHUNK = 512  # items taken at once where all are gone through


class Store(ABC):
    """Encoded items of `spec`, their conditions by name and the names of where they came from."""

    spec: Any  # Spec
    cond: dict[str, Any]  # Encoded, each with N rows
    names: Sequence[str]

    @abstractmethod
    def __len__(self) -> int:
        """N."""

    @abstractmethod
    def stored(self, index: Tensor) -> Encoded:
        """The items at `index` (B,) as they are stored; `expand` makes of them what was encoded."""

    @abstractmethod
    def with_cond(self, cond: Mapping[str, Encoded]) -> Store:
        """The same items with other conditions."""

    def batch(self, index: Tensor) -> Batch:
        """The items at `index` (B,), in [-1, 1] or as int64 tokens, with their conditions."""
        x = expand(self.stored(index), self.spec)
        other = self.other(index)
        return Batch(x, cond=self._cond_at(index), weight=self.weight(index), other=other)

    def weight(self, index: Tensor) -> Any:
        """How much each value of the items at `index` counts in the loss; None: all alike."""
        return None

    def other(self, index: Tensor) -> Batch | None:
        """What the items at `index` are compared with; None where they are not."""
        return None

    def drawn(self, index: Tensor, shares: Tensor) -> Batch:
        """The items at `index` (B,) as training sees them. `shares` (B,), drawn from [0, 1), are
        for stores that have more to show than their items: the windows of a stream begin anywhere.
        """
        return self.batch(index)

    def take(self, index: Tensor) -> Store:
        """The items at `index`, as a store of their own."""
        return Selection(self, index)

    def subset(self, num: int, generator: torch.Generator) -> Store:
        """`num` items drawn without replacement, or all of them in order when there are fewer."""
        if num >= len(self):
            return self
        return self.take(torch.randperm(len(self), generator=generator)[:num])

    def chunks(self, size: int = CHUNK) -> Iterator[Encoded]:
        """All items as they are stored, `size` at a time, in order."""
        for start in range(0, len(self), size):
            yield self.stored(torch.arange(start, min(start + size, len(self))))

    def batches(self, size: int = CHUNK) -> Iterator[Batch]:
        """All items, `size` at a time, in order."""
        for start in range(0, len(self), size):
            yield self.batch(torch.arange(start, min(start + size, len(self))))

    def holds_only(self, item: Encoded) -> bool:
        """Whether every item is this one, given as it is stored, with a batch axis of 1."""
        return all(_all_equal(chunk, item) for chunk in self.chunks())

    def digest_into(self, digest: hashlib.blake2b, name: str) -> None:
        """Hash the items and their conditions, chunk by chunk, under the name of the split."""
        parts = dict(self.spec) if isinstance(self.spec, ProductSpec) else {"": self.spec}
        for part, spec in parts.items():
            digest.update(f"{name}{f'.{part}' * bool(part)} {(len(self), *spec.shape)}".encode())
            for chunk in self.chunks():
                digest.update(_bytes(chunk[part] if isinstance(chunk, dict) else chunk))
        for key in sorted(self.cond):
            values = self.cond[key]
            named = values if isinstance(values, dict) else {"": values}
            for part, value in named.items():
                digest.update(f"{key}{f'.{part}' * bool(part)}".encode())
                digest.update(_bytes(value))

    def _cond_at(self, index: Tensor) -> dict[str, Any]:
        return {name: rows(values, index) for name, values in self.cond.items()}


class MemoryStore(Store):
    """Items in memory: `x` (N, *shape) as level indices where the spec has levels; by parts, a dict
    of such tensors."""

    def __init__(
        self,
        spec: Spec,
        x: Any,
        cond: Mapping[str, Encoded] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self.spec, self.x, self.cond, self.names = spec, x, dict(cond or {}), names

    @classmethod
    def of(cls, spec: Spec, x: Encoded, **about: Any) -> MemoryStore:
        """A store of items as they are encoded."""
        return cls(spec, compact(x, spec), **about)

    def __len__(self) -> int:
        return num_items(self.x)

    def stored(self, index: Tensor) -> Encoded:
        return rows(self.x, index)

    def chunks(self, size: int = CHUNK) -> Iterator[Encoded]:
        """Slices, which are not copied."""
        for start in range(0, len(self), size):
            yield rows(self.x, slice(start, start + size))

    def take(self, index: Tensor) -> Store:
        names = [self.names[i] for i in index.tolist()] if self.names else []
        return MemoryStore(self.spec, rows(self.x, index), self._cond_at(index), names)

    def with_cond(self, cond: Mapping[str, Encoded]) -> Store:
        return MemoryStore(self.spec, self.x, cond, self.names)


class Selection(Store):
    """The items of a store at `index`, read when they are asked for."""

    def __init__(
        self, store: Store, index: Tensor, cond: Mapping[str, Encoded] | None = None
    ) -> None:
        self.store, self.index, self.spec = store, index, store.spec
        self.cond = store._cond_at(index) if cond is None else dict(cond)
        self.names = _At(store.names, index) if store.names else []

    def __len__(self) -> int:
        return len(self.index)

    def stored(self, index: Tensor) -> Encoded:
        return self.store.stored(self.index[index])

    def weight(self, index: Tensor) -> Any:
        return self.store.weight(self.index[index])

    def other(self, index: Tensor) -> Batch | None:
        return self.store.other(self.index[index])

    def with_cond(self, cond: Mapping[str, Encoded]) -> Store:
        return Selection(self.store, self.index, cond)


class Varied(Store):
    """Items, and each in several ways, of which training sees one (see `core.augment`): for
    encodings in which they cannot be varied any more."""

    def __init__(self, store: Store, variants: Sequence[Store]) -> None:
        self.store, self.variants, self.spec = store, variants, store.spec
        self.cond, self.names = store.cond, store.names

    def __len__(self) -> int:
        return len(self.store)

    def stored(self, index: Tensor) -> Encoded:
        return self.store.stored(index)

    def drawn(self, index: Tensor, shares: Tensor) -> Batch:
        number = (shares * len(self.variants)).long()
        parts = [each.stored(index[number == k]) for k, each in enumerate(self.variants)]
        place = number.argsort(stable=True).argsort()
        return Batch(expand(rows(joined(parts), place), self.spec), cond=self._cond_at(index))

    def take(self, index: Tensor) -> Store:
        return Varied(self.store.take(index), [each.take(index) for each in self.variants])

    def with_cond(self, cond: Mapping[str, Encoded]) -> Store:
        return Varied(self.store.with_cond(cond), self.variants)


class Joined(Store):
    """Two stores of one spec, one after the other."""

    def __init__(
        self, first: Store, second: Store, cond: Mapping[str, Encoded] | None = None
    ) -> None:
        self.first, self.second, self.spec = first, second, first.spec
        both = {name: joined([first.cond[name], second.cond[name]]) for name in first.cond}
        self.cond = both if cond is None else dict(cond)
        self.names = _After(first.names, second.names) if first.names else []

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def stored(self, index: Tensor) -> Encoded:
        own = index < len(self.first)
        place = torch.cat([own.nonzero()[:, 0], (~own).nonzero()[:, 0]]).argsort()
        read = [self.first.stored(index[own]), self.second.stored(index[~own] - len(self.first))]
        return rows(joined(read), place)

    def with_cond(self, cond: Mapping[str, Encoded]) -> Store:
        return Joined(self.first, self.second, cond)


class Begun(Store):
    """Items that were begun before (see `core.following.BegunBefore`): only what is new of each
    counts. Weights are such that their mean over what is real is 1."""

    def __init__(self, store: Store, judged: Callable[[Tensor], Tensor]) -> None:
        self.store, self.judged, self.spec = store, judged, store.spec
        self.cond, self.names = store.cond, store.names

    def __len__(self) -> int:
        return len(self.store)

    def stored(self, index: Tensor) -> Encoded:
        return self.store.stored(index)

    def weight(self, index: Tensor) -> Tensor:
        """How much each value counts, (B, *shape)."""
        x = expand(self.store.stored(index), self.spec)
        return self.judged(x) * self._scale

    @functools.cached_property
    def _scale(self) -> float:
        real = new = 0.0
        for chunk in self.store.chunks():
            x = expand(chunk, self.spec)
            real += float(self.spec.num_real(x).sum())
            new += float(self.judged(x).sum())
        return real / max(new, 1.0)

    def with_cond(self, cond: Mapping[str, Encoded]) -> Store:
        return Begun(self.store.with_cond(cond), self.judged)


def join(first: Store, second: Store) -> Store:
    """Stores of one spec one after the other: in memory, where both are."""
    both = Joined(first, second)
    if not isinstance(first, MemoryStore) or not isinstance(second, MemoryStore):
        return both
    return MemoryStore(first.spec, joined([first.x, second.x]), both.cond, list(both.names))


# -- how an item is stored -------------------------------------------------------------------------


def storage_dtype(spec: TensorSpec) -> torch.dtype:
    """The smallest type that holds a value: uint8 up to 256, uint16 up to 65,536, int32 above;
    float32 for continuous ones."""
    count = spec.vocab_size if spec.kind == "token" else spec.levels
    if count is None:
        return torch.float32
    return torch.uint8 if count <= 256 else torch.uint16 if count <= 65536 else torch.int32


def compact(x: Encoded, spec: Spec) -> Any:
    """Encoded items -> how they are stored. `expand` is the inverse."""
    if isinstance(spec, ProductSpec):
        assert isinstance(x, dict)
        return {name: compact(x[name], part) for name, part in spec}
    assert isinstance(x, Tensor)
    if spec.kind == "real" and spec.levels is not None:
        x = spec.quantise(x)
    return x.to(storage_dtype(spec))


def expand(x: Encoded, spec: Spec) -> Any:
    """Stored items -> encoded items: what `Codec.encode` gave."""
    if isinstance(spec, ProductSpec):
        assert isinstance(x, dict)
        return {name: expand(x[name], part) for name, part in spec}
    assert isinstance(x, Tensor)
    if spec.kind == "token":
        return x.long()
    return x if spec.levels is None else spec.dequantise(x)


def no_items(spec: Spec, count: int = 0) -> Any:
    """Room for `count` items as they are stored."""
    if isinstance(spec, ProductSpec):
        return {name: no_items(part, count) for name, part in spec}
    return torch.empty(count, *spec.shape, dtype=storage_dtype(spec))


def item_bytes(spec: Spec) -> int:
    """How many bytes one stored item takes."""
    if isinstance(spec, ProductSpec):
        return sum(item_bytes(part) for _, part in spec)
    return spec.num_values * storage_dtype(spec).itemsize


def digest_stores(spec: Spec, stores: Mapping[str, Store]) -> str:
    """A hash over the spec, the encoded items and their conditions, split by split."""
    digest = hashlib.blake2b(str(spec.to_json()).encode(), digest_size=16)
    for name, store in stores.items():
        store.digest_into(digest, name)
    return digest.hexdigest()


def _bytes(x: Tensor) -> memoryview:
    data: memoryview = x.contiguous().numpy().data
    return data


def _all_equal(x: Encoded, item: Encoded) -> bool:
    if isinstance(x, dict):
        assert isinstance(item, dict)
        return all(_all_equal(x[name], item[name]) for name in x)
    assert isinstance(item, Tensor)
    return bool((x == item).all())


class _At(Sequence[str]):
    """Some of other names."""

    def __init__(self, names: Sequence[str], index: Tensor) -> None:
        self.names, self.places = names, index

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self.names[i] for i in self.places[number].tolist()]
        return self.names[int(self.places[number])]


class _After(Sequence[str]):
    """Names, and then others."""

    def __init__(self, first: Sequence[str], second: Sequence[str]) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        number = number + len(self) * (number < 0)
        late = number - len(self.first)
        return self.second[late] if late >= 0 else self.first[number]
