"""The encoded items of one split, stored compactly.

Legend: N items, B batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.spec import TensorSpec


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


def digest_splits(spec: TensorSpec, splits: Mapping[str, Split]) -> str:
    """A hash over the spec, the encoded items and their conditions, split by split."""
    digest = hashlib.blake2b(str(spec.to_json()).encode(), digest_size=16)
    for name, split in splits.items():
        digest.update(f"{name} {tuple(split.x.shape)}".encode())
        digest.update(split.x.numpy().data)
        for key in sorted(split.cond):
            digest.update(key.encode() + split.cond[key].numpy().tobytes())
    return digest.hexdigest()
