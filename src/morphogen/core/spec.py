"""What one encoded item looks like: the hinge between modalities, backbones and families.

Shapes are read off the first encoded item, never typed by hand. The batch axis is left out.

Legend: B batch, C channels, L length, V vocabulary, *space any number of spatial axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from morphogen.core.encoded import Encoded
from morphogen.core.errors import RefusedPair

MARK = "{}_there"  # what a run that says whether another one is there is called
MOST_TOLD = 6  # parts that a message describes one by one
PLAIN = ("kind", "shape", "vocab_size", "levels", "layout")  # told of every spec, as JSON


@dataclass(frozen=True)
class Run:
    """Positions of a sequence, one after the other, that hold some tokens of its vocabulary alone:
    `length` of them, the tokens `first` to `first + size - 1`."""

    name: str  # runs of one name are one thing
    length: int
    first: int
    size: int


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of an encoded item.

    `kind="real"`: shape (C, *space), values in [-1, 1] by convention of every codec. `levels` says
    how many equally spaced values the data can take (256 for 8-bit pictures); None is continuous.
    It is what lets likelihoods be compared on one scale and pixels be modelled as tokens.

    `kind="token"`: integers in [0, vocab_size); shape (L,) for sequences, () for a class label.
    A sequence with an `end` token has items of any length up to L: what follows the first end is
    padding, no part of the item. With `sizes`, position i holds one of its own sizes[i] tokens (the
    columns of a table), and `vocab_size` is the largest of them; `names` says what each is called,
    those of one name being one thing that takes several tokens. With `runs`, pictures, sounds and
    words stand in one sequence and share one vocabulary, of which each position holds tokens of its
    own kind. Where items are windows of a stream of documents, `boundary` is the token after each
    document.
    """

    kind: Literal["real", "token"]
    shape: tuple[int, ...]
    vocab_size: int | None = None
    levels: int | None = None
    layout: Literal["vector", "sequence", "grid"] = "grid"
    end: int | None = None
    sizes: tuple[int, ...] | None = None
    boundary: int | None = None
    names: tuple[str, ...] | None = None
    runs: tuple[Run, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if (self.kind == "token") != (self.vocab_size is not None):
            raise ValueError("vocab_size belongs to token specs, and every token spec has one")
        if any(n < 1 for n in self.shape):
            raise ValueError(f"every axis needs a positive size, got {self.shape}")
        if self.sizes is not None:
            object.__setattr__(self, "sizes", tuple(int(n) for n in self.sizes))
        sequence = self.kind == "token" and len(self.shape) == 1
        of_sequences = (self.end, self.sizes, self.boundary, self.runs)
        if any(value is not None for value in of_sequences) and not sequence:
            raise ValueError("end, sizes, boundary and runs belong to sequences of tokens")
        for last in (self.end, self.boundary):
            if last is not None and not 0 <= last < (self.vocab_size or 0):
                raise ValueError(f"the token {last} is none of {self.vocab_size}")
        if self.sizes is not None and (
            len(self.sizes) != self.shape[0] or min(self.sizes) < 1
            or max(self.sizes) != self.vocab_size
        ):  # fmt: skip
            raise ValueError("sizes has one number for each position, the largest is vocab_size")
        if self.runs is not None:
            self._see_runs(self.runs)
        elif self.names is not None:
            object.__setattr__(self, "names", tuple(self.names))
            if len(self.names) != len(self.sizes or ()):
                raise ValueError("names has one for each column")

    def _see_runs(self, runs: tuple[Run, ...]) -> None:
        """Positions are called as their runs are."""
        if (self.end, self.sizes, self.boundary) != (None, None, None):
            raise ValueError("runs say which tokens a position holds: no end, sizes or boundary")
        if sum(run.length for run in runs) != self.shape[0]:
            raise ValueError("runs cover each position once")
        for run in runs:
            if not 0 <= run.first < run.first + run.size <= (self.vocab_size or 0):
                raise ValueError(f"{run.name} holds tokens that are none of {self.vocab_size}")
        names = tuple(run.name for run in runs for _ in range(run.length))
        object.__setattr__(self, "runs", tuple(runs))
        object.__setattr__(self, "names", names)

    @classmethod
    def vector(cls, dim: int) -> TensorSpec:
        """A continuous vector of `dim` features: latents, embeddings, scalar outputs."""
        return cls("real", (dim,), layout="vector")

    @classmethod
    def label(cls, num_classes: int) -> TensorSpec:
        """One class label: a single token."""
        return cls("token", (), vocab_size=num_classes, layout="vector")

    @classmethod
    def tokens(
        cls, length: int, vocab_size: int, end: int | None = None, boundary: int | None = None
    ) -> TensorSpec:
        """A sequence of `length` tokens; with an `end` token, of at most so many."""
        return cls("token", (length,), vocab_size, None, "sequence", end, None, boundary)

    @classmethod
    def columns(cls, sizes: tuple[int, ...], names: tuple[str, ...] | None = None) -> TensorSpec:
        """One token for each column of a row, each with a vocabulary of its own."""
        return cls("token", (len(sizes),), max(sizes), None, "sequence", sizes=sizes, names=names)

    @classmethod
    def interleaved(cls, runs: Sequence[Run]) -> TensorSpec:
        """Runs one after the other, over one vocabulary."""
        length, size = sum(run.length for run in runs), max(run.first + run.size for run in runs)
        return cls("token", (length,), size, layout="sequence", runs=tuple(runs))

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

    @property
    def is_label(self) -> bool:
        """Whether an item is one class."""
        return self.kind == "token" and self.shape == ()

    @property
    def is_ragged(self) -> bool:
        """Whether items differ in length, so that `mask` has something to say."""
        return self.end is not None

    def mask(self, x: Tensor) -> Tensor | None:
        """True where items (B, *) are real, the first end token included, (B, L); None where all
        of every item is."""
        if self.end is None:
            return None
        return (x == self.end).cumsum(1) - (x == self.end).long() == 0

    def canonical(self, x: Tensor) -> Tensor:
        """The one way of writing each item: after its first end there are only ends."""
        mask = self.mask(x)
        return x if mask is None else x.masked_fill(~mask, self.end or 0)

    def num_real(self, x: Tensor) -> Tensor:
        """How many values of each item are real: (B, *) -> (B,), as floats."""
        mask = self.mask(x)
        if mask is None:
            return torch.full((len(x),), float(self.num_values), device=x.device)
        return mask.flatten(1).sum(1).float()

    @property
    def allowed(self) -> Tensor | None:
        """Which tokens each position can hold, (L, V) bool; None where it is all of them."""
        token = torch.arange(self.vocab_size or 1)
        if self.runs is not None:
            of_runs = [(token >= run.first) & (token < run.first + run.size) for run in self.runs]
            lengths = torch.tensor([run.length for run in self.runs])
            return torch.stack(of_runs).repeat_interleave(lengths, 0, output_size=self.shape[0])
        return None if self.sizes is None else token < torch.tensor(self.sizes)[:, None]

    def within_runs(self, x: Tensor) -> Tensor:
        """Which positions of items (N, L) hold values of runs that are there, and no mark that says
        whether one is: (N, L) bool."""
        found, place = torch.ones_like(x, dtype=torch.bool), 0
        for run, after in itertools.pairwise(self.runs or ()):
            if run.name == MARK.format(after.name):
                found[:, place] = False
                found[:, place + 1 : place + 1 + after.length] = x[:, [place]] > run.first
            place += run.length
        return found

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

    def check(self, x: Encoded, what: str = "batch") -> None:
        """Raise `RefusedPair` unless `x` is a batch (B, *shape) of this spec."""
        if isinstance(x, dict) or tuple(x.shape[1:]) != self.shape:
            raise RefusedPair(
                f"the {what} does not fit the model's spec",
                found=f"parts {', '.join(x)}" if isinstance(x, dict) else tuple(x.shape),
                expected=f"(B, {', '.join(map(str, self.shape))})",
            )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` is the inverse."""
        own = {k: v for k, v in asdict(self).items() if v is not None or k in PLAIN}
        if self.runs is not None:
            del own["names"]  # which runs say
        return {k: list(v) if isinstance(v, tuple) else v for k, v in own.items()}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> TensorSpec:
        """Inverse of `to_json`."""
        own: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in state.items()}
        if own.get("runs") is not None:
            own["runs"] = tuple(Run(**run) for run in own["runs"])
        return cls(**own)

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape)) or "1"
        if self.kind == "token":
            most = "up to " if self.is_ragged else ""
            own = " columns of" if self.sizes else " of"
            if self.runs:
                told = ", ".join(f"{run.name} {run.length}" for run in self.runs if run.length > 1)
                return f"token {self.layout} {size} of {self.vocab_size}: {told}"
            return f"token {self.layout} {most}{size}{own} {self.vocab_size}"
        levels = f", {self.levels} levels" if self.levels else ""
        return f"real {self.layout} {size}{levels}"


@dataclass(frozen=True)
class ProductSpec:
    """Named parts that make one item together: a row of mixed columns, a graph, paired data.

    An item is a dict of tensors, one for each part. `lengths` names, for a part whose items differ
    in length, the part (one token) that says how many of its positions are real. `pairs` names the
    parts that are relations between positions (the bonds of a graph): their two axes, of one size,
    run over the same positions, and of each pair the value at (i, j), i < j, is the only real one.
    """

    parts: dict[str, TensorSpec] = field(default_factory=dict)
    lengths: dict[str, str] = field(default_factory=dict)
    pairs: tuple[str, ...] = ()

    kind: ClassVar[Literal["parts"]] = "parts"
    layout: ClassVar[Literal["vector"]] = "vector"
    levels: ClassVar[None] = None
    vocab_size: ClassVar[None] = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", tuple(self.pairs))
        for part, length in self.lengths.items():
            known = length in self.parts and self.parts[length].shape == ()
            if not known or part not in self.parts or not self.parts[part].space:
                raise ValueError(f"the length of {part!r} needs to be a part of one token")
        for part in self.pairs:
            space = self.parts[part].space if part in self.parts else ()
            if len(space) != 2 or space[0] != space[1]:
                raise ValueError(f"pairs need two axes of one size, and {part!r} has {space}")

    def __iter__(self) -> Iterator[tuple[str, TensorSpec]]:
        return iter(self.parts.items())

    @property
    def space(self) -> tuple[int, ...]:
        """Parts share no positions: ()."""
        return ()

    @property
    def num_values(self) -> int:
        """Values in one item, over all parts; of pairs, each once."""
        return sum(self._num_values(name) for name in self.parts)

    def _num_values(self, name: str) -> int:
        part = self.parts[name]
        if name not in self.pairs:
            return part.num_values
        size = part.space[0]
        return part.channels * size * (size - 1) // 2

    @property
    def is_ragged(self) -> bool:
        """Whether any part differs in length from item to item."""
        return bool(self.lengths) or any(part.is_ragged for part in self.parts.values())

    def mask(self, x: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
        """The mask of every part, broadcastable to it; None where all of the part is real."""
        found = {name: part.mask(x[name]) for name, part in self}
        for name in {*self.lengths, *self.pairs}:
            part, size = self.parts[name], self.parts[name].space[0]
            place = torch.arange(size, device=x[name].device)
            whole = torch.full((len(x[name]),), size, device=place.device)
            real = place < x.get(self.lengths.get(name, ""), whole)[:, None]  # (B, L)
            if name in self.pairs:
                upper = place[:, None] < place  # (L, L)
                own = upper & real[:, :, None] & real[:, None]
                found[name] = own if part.kind == "token" else own[:, None]
            elif part.kind == "token":
                found[name] = real.view(len(real), -1, *(1,) * (len(part.space) - 1))
            else:
                found[name] = real.view(len(real), 1, -1, *(1,) * (len(part.space) - 1))
        return found

    def canonical(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The one way of writing each item: nothing stands where nothing is real."""
        masks = self.mask(x)
        found = {}
        for name, part in self:
            mask, value = masks[name], part.canonical(x[name])
            found[name] = value if mask is None else value.masked_fill(~mask, part.end or 0)
        return found

    def num_real(self, x: Mapping[str, Tensor]) -> Tensor:
        """How many values of each item are real, over all parts: (B,)."""
        masks = self.mask(x)
        counts = []
        for name, part in self:
            mask = masks[name]
            if mask is None:
                counts.append(part.num_real(x[name]))
            else:
                counts.append(mask.expand_as(x[name]).flatten(1).sum(1).float())
        return torch.stack(counts).sum(0)

    def check(self, x: Encoded, what: str = "batch") -> None:
        """Raise `RefusedPair` unless `x` is a batch of this spec: each part by its name."""
        if not isinstance(x, dict) or x.keys() != self.parts.keys():
            raise RefusedPair(
                f"the {what} does not have the model's parts",
                found=", ".join(x) if isinstance(x, dict) else f"one tensor {tuple(x.shape)}",
                expected=", ".join(self.parts),
            )
        for name, part in self:
            part.check(x[name], f"part {name!r} of the {what}")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` is the inverse."""
        parts = {name: part.to_json() for name, part in self}
        lengths = {"lengths": dict(self.lengths)} if self.lengths else {}
        return {"parts": parts, **lengths, **({"pairs": list(self.pairs)} if self.pairs else {})}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> ProductSpec:
        """Inverse of `to_json`."""
        parts = {name: TensorSpec.from_json(part) for name, part in state["parts"].items()}
        return cls(parts, dict(state.get("lengths", {})), tuple(state.get("pairs", ())))

    def __str__(self) -> str:
        if len(self.parts) <= MOST_TOLD:
            return "(" + ", ".join(f"{name}: {part}" for name, part in self) + ")"
        tokens = sum(part.kind == "token" for _, part in self)
        return f"{len(self.parts)} parts: {tokens} of tokens, {len(self.parts) - tokens} of numbers"


Spec = TensorSpec | ProductSpec


def spec_from_json(state: Mapping[str, Any]) -> Spec:
    """The spec that `to_json` of either kind described."""
    return ProductSpec.from_json(state) if "parts" in state else TensorSpec.from_json(state)
