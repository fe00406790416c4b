"""The encoded items of one split, stored compactly, and which items are held out.

Legend: N items, B batch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.spec import TensorSpec

HELD_OUT = 0.1  # the part of the items that becomes the test split, where the source has none
FEWEST_TO_SPLIT = 5  # with fewer items, all are for training


@dataclass
class Split:
    """Encoded items: `x` (N, *shape) as level indices where the spec has levels, float32 else."""

    spec: TensorSpec
    x: Tensor
    cond: dict[str, Tensor] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Batch:
        """The items at `index` (B,), in [-1, 1] or as int64 tokens, with their conditions."""
        return Batch(expand(self.x[index], self.spec), cond=self._cond_at(index))

    def take(self, index: Tensor) -> Split:
        """The items at `index`, as a split of their own."""
        names = [self.names[i] for i in index.tolist()] if self.names else []
        return Split(self.spec, self.x[index], self._cond_at(index), names)

    def encoded_as(self, spec: TensorSpec, x: Tensor) -> Split:
        """The same items in another encoding (N, *spec.shape)."""
        return Split(spec, compact(x, spec), self.cond, self.names)

    def subset(self, num: int, generator: torch.Generator) -> Split:
        """`num` items drawn without replacement, or all of them in order when there are fewer."""
        if num >= len(self):
            return self
        return self.take(torch.randperm(len(self), generator=generator)[:num])

    def _cond_at(self, index: Tensor) -> dict[str, Tensor]:
        return {name: values[index] for name, values in self.cond.items()}


def storage_dtype(spec: TensorSpec) -> torch.dtype:
    """The smallest type that holds an item: uint8 up to 256 values, int32 above, float32."""
    count = spec.vocab_size if spec.kind == "token" else spec.levels
    if count is None:
        return torch.float32
    return torch.uint8 if count <= 256 else torch.int32


def compact(x: Tensor, spec: TensorSpec) -> Tensor:
    """Encoded items -> how they are stored. `expand` is the inverse."""
    if spec.kind == "real" and spec.levels is not None:
        x = spec.quantise(x)
    return x.to(storage_dtype(spec))


def expand(x: Tensor, spec: TensorSpec) -> Tensor:
    """Stored items -> encoded items: what `Codec.encode` gave."""
    if spec.kind == "token":
        return x.long()
    return x if spec.levels is None else spec.dequantise(x)


def digest_of(value: Any) -> bytes:
    """16 bytes that depend on a raw item's content alone, not on its name or place."""
    form = f"{type(value).__name__} {getattr(value, 'mode', '')} {getattr(value, 'shape', '')}"
    form += str(value.size) if hasattr(value, "mode") else ""
    content = value.tobytes() if hasattr(value, "tobytes") else str(value).encode()
    return hashlib.blake2b(content, digest_size=16, key=form.encode()[:64]).digest()


def assign(
    own: Sequence[str | None],
    digests: Sequence[bytes],
    labels: Sequence[Any],
    groups: Sequence[int] | None = None,
) -> list[str]:
    """Which split each item belongs to: the source's own, or a held-out tenth.

    The tenth is chosen by hashing content: it stays the same when items are added, moved or
    renamed. Items of one of the `groups`, by default the copies of one item, never stand on both
    sides: a group goes where one of its members, chosen by content too, would go alone.
    """
    if "test" in own or "validation" in own:
        held = "test" if "test" in own else "validation"
        return ["test" if split == held else "train" for split in own]
    if len(own) < FEWEST_TO_SPLIT:
        return ["train"] * len(own)
    keys: Sequence[Any] = digests if groups is None else groups
    # The upper half of a digest chooses the member, the lower half its place: they are independent.
    chosen: dict[Any, bytes] = {}
    for key, digest in zip(keys, digests, strict=True):
        chosen[key] = min(chosen.get(key, digest), digest, key=lambda each: each[8:])
    place = {key: int.from_bytes(digest[:8]) / 2**64 for key, digest in chosen.items()}
    held_out = {key for key in place if place[key] < HELD_OUT}
    count = sum(key in held_out for key in keys)
    if not count or count * 2 > len(keys):
        sizes = Counter(keys)
        small = [key for key in place if sizes[key] * 2 <= len(keys)]
        held_out = {min(small, key=place.__getitem__)} if small else set()
    in_train = {label for label, key in zip(labels, keys, strict=True) if key not in held_out}
    # A class that would have no training item keeps all of its items in the training split.
    held_out -= {key for label, key in zip(labels, keys, strict=True) if label not in in_train}
    return ["test" if key in held_out else "train" for key in keys]


def digest_splits(spec: TensorSpec, splits: Mapping[str, Split]) -> str:
    """A hash over the spec, the encoded items and their conditions, split by split."""
    digest = hashlib.blake2b(str(spec.to_json()).encode(), digest_size=16)
    for name, split in splits.items():
        digest.update(f"{name} {tuple(split.x.shape)}".encode())
        digest.update(split.x.numpy().data)
        for key in sorted(split.cond):
            digest.update(key.encode() + split.cond[key].numpy().tobytes())
    return digest.hexdigest()
