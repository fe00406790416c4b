"""What one encoded item looks like: the hinge between modalities, backbones and families.

Shapes are read off the first encoded item, never typed by hand. The batch axis is left out.

Legend: B batch, C channels, L length, V vocabulary, *space any number of spatial axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from morphogen.core.errors import RefusedPair


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of an encoded item.

    `kind="real"`: shape (C, *space), values in [-1, 1] by convention of every codec. `levels` says
    how many equally spaced values the data can take (256 for 8-bit pictures); None is continuous.
    It is what lets likelihoods be compared on one scale and pixels be modelled as tokens.

    `kind="token"`: integers in [0, vocab_size); shape (L,) for sequences, () for a class label.
    """

    kind: Literal["real", "token"]
    shape: tuple[int, ...]
    vocab_size: int | None = None
    levels: int | None = None
    layout: Literal["vector", "sequence", "grid"] = "grid"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if (self.kind == "token") != (self.vocab_size is not None):
            raise ValueError("vocab_size belongs to token specs, and every token spec has one")
        if any(n < 1 for n in self.shape):
            raise ValueError(f"every axis needs a positive size, got {self.shape}")

    @classmethod
    def vector(cls, dim: int) -> TensorSpec:
        """A continuous vector of `dim` features: latents, embeddings, scalar outputs."""
        return cls("real", (dim,), layout="vector")

    @classmethod
    def label(cls, num_classes: int) -> TensorSpec:
        """One class label: a single token."""
        return cls("token", (), vocab_size=num_classes, layout="vector")

    @classmethod
    def tokens(cls, length: int, vocab_size: int) -> TensorSpec:
        """A sequence of `length` tokens."""
        return cls("token", (length,), vocab_size=vocab_size, layout="sequence")

    @property
    def channels(self) -> int:
        """C for real specs; 1 for tokens."""
        return self.shape[0] if self.kind == "real" and self.shape else 1

    @property
    def space(self) -> tuple[int, ...]:
        """The axes that positions run over: (H, W) for a picture, (L,) for text, () for vectors."""
        return self.shape[1:] if self.kind == "real" else self.shape

    @property
    def num_values(self) -> int:
        """Values in one item: the D of bits per dimension."""
        return math.prod(self.shape)

    @property
    def level_width(self) -> float:
        """The distance between two neighbouring levels; 0 for continuous data."""
        return 2.0 / (self.levels - 1) if self.levels else 0.0

    def with_channels(self, channels: int) -> TensorSpec:
        """The continuous spec of `channels` features at each position: (channels, *space)."""
        return TensorSpec("real", (channels, *self.space), layout=self.layout)

    def quantise(self, x: Tensor) -> Tensor:
        """Map values in [-1, 1] to level indices 0 .. levels-1, as int64."""
        if self.levels is None:
            raise ValueError(f"{self} is continuous: it has no levels to quantise to")
        return ((x + 1) * (0.5 * (self.levels - 1))).round().clamp(0, self.levels - 1).long()

    def dequantise(self, index: Tensor) -> Tensor:
        """Inverse of `quantise`: level indices to values in [-1, 1]."""
        if self.levels is None:
            raise ValueError(f"{self} is continuous: it has no levels")
        return index.to(torch.get_default_dtype()) * self.level_width - 1.0

    def check(self, x: Tensor, what: str = "batch") -> None:
        """Raise `RefusedPair` unless `x` is a batch (B, *shape) of this spec."""
        if tuple(x.shape[1:]) != self.shape:
            raise RefusedPair(
                f"the {what} does not fit the model's spec",
                found=tuple(x.shape),
                expected=f"(B, {', '.join(map(str, self.shape))})",
            )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` is the inverse."""
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> TensorSpec:
        """Inverse of `to_json`."""
        return cls(**{**state, "shape": tuple(state["shape"])})

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape)) or "1"
        if self.kind == "token":
            return f"token {self.layout} {size} of {self.vocab_size}"
        levels = f", {self.levels} levels" if self.levels else ""
        return f"real {self.layout} {size}{levels}"


@dataclass(frozen=True)
class ProductSpec:
    """Named parts that make one item together: graphs, mixed tables, paired data."""

    parts: dict[str, TensorSpec] = field(default_factory=dict)

    @property
    def num_values(self) -> int:
        """Values in one item, over all parts."""
        return sum(part.num_values for part in self.parts.values())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` is the inverse."""
        return {"parts": {name: part.to_json() for name, part in self.parts.items()}}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> ProductSpec:
        """Inverse of `to_json`."""
        return cls({name: TensorSpec.from_json(part) for name, part in state["parts"].items()})

    def __str__(self) -> str:
        return "(" + ", ".join(f"{name}: {part}" for name, part in self.parts.items()) + ")"
