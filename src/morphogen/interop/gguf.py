"""GGUF, the file in which llama.cpp and what is built on it keep models: read and written.

    magic  version  counts | name, type, value .. | tensor: name, shape, type, place .. | data ..

Numbers are little-endian; the data begins, and each tensor in it, at a multiple of
`general.alignment`. A file is mapped into memory and a tensor becomes numbers when it is asked for.
Of quantised types, the blocks are the `gguf` package's to know.

Format: github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3 (which differ in nothing here).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from morphogen.core.errors import BundleError, RecipeError
from morphogen.core.extras import extra
from morphogen.core.storage import expanded, write_atomic

MAGIC, VERSIONS = b"GGUF", (2, 3)
ALIGNMENT = 32  # of data, where a file says nothing
MOST_AXES = 4
LARGEST_TEXT = 64 << 20  # bytes of one text
STRING, ARRAY = 8, 9
NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
# Type of a tensor: its number, values in a block, bytes of a block.
KINDS = {
    "F32": (0, 1, 4), "F16": (1, 1, 2), "BF16": (30, 1, 2), "Q4_0": (2, 32, 18),
    "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34),
    "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110), "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210),
}  # fmt: skip
BY_NUMBER = {number: kind for kind, (number, _, _) in KINDS.items()}


@dataclass(frozen=True)
class Stored:
    """A tensor as it lies in a file."""

    name: str
    shape: tuple[int, ...]  # as torch has it: the last axis is the one that lies together
    kind: str
    data: np.ndarray  # bytes, (N,) uint8

    def tensor(self) -> Tensor:
        """Its numbers, float32, in memory of their own."""
        if self.kind == "F32":
            values = self.data.view(np.float32).copy()
        elif self.kind == "F16":
            values = self.data.view(np.float16).astype(np.float32)
        elif self.kind == "BF16":
            values = (self.data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            library = _library()
            _, per_block, num_bytes = KINDS[self.kind]
            rows = self.data.reshape(-1, self.shape[-1] // per_block * num_bytes)
            values = library.dequantize(rows, library.GGMLQuantizationType[self.kind])
        return torch.from_numpy(values).view(self.shape)


@dataclass(frozen=True)
class GGUF:
    """A file: what it says of the model, and the tensors by name."""

    facts: dict[str, Any]
    tensors: dict[str, Stored]
    path: Path | None = field(default=None)


def read_gguf(path: Path | str) -> GGUF:
    """The file at `path`. Raises `BundleError` for what is no GGUF, is cut short, or holds tensors
    of types that are not known, which it lists."""
    path = expanded(path)
    if not path.is_file() or path.stat().st_size < len(MAGIC):
        raise BundleError("there is no GGUF file", found="nothing", where=path)
    bytes_ = np.memmap(path, np.uint8, "r")
    reader = _Reader(bytes_.data, path)
    reader.check_begin()
    num_tensors, num_facts = reader.number("Q"), reader.number("Q")
    facts: dict[str, Any] = {}
    for _ in range(num_facts):
        name = reader.text()
        if name in facts:
            raise BundleError("a name comes twice in the file", found=name, where=path)
        facts[name] = reader.value(reader.number("I"))
    listed = [reader.listed() for _ in range(num_tensors)]
    alignment = facts.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise BundleError("data cannot be aligned so", found=repr(alignment), where=path)
    begin = -(-reader.place // alignment) * alignment
    return GGUF(facts, dict(_stored(listed, bytes_, begin, path)), path)


@dataclass(frozen=True)
class _Listed:
    """A tensor as a file lists it."""

    name: str
    shape: tuple[int, ...]
    number: int  # of its type
    place: int  # in the data


def _stored(
    listed: list[_Listed], bytes_: np.ndarray, begin: int, path: Path
) -> Iterator[tuple[str, Stored]]:
    """The tensors, where all of them are of known types, are there, and are no others'."""
    if strange := [each for each in listed if each.number not in BY_NUMBER]:
        raise BundleError(
            "tensors are quantised in a way that is not known here",
            found=some([f"{each.name} (type {each.number})" for each in strange]),
            expected=", ".join(KINDS), where=path,
            hint="take the model in Q8_0 or F16, or requantise it with llama-quantize",
        )  # fmt: skip
    missing, seen = [], set[str]()
    for each in listed:
        kind = BY_NUMBER[each.number]
        _, per_block, num_bytes = KINDS[kind]
        if each.shape[-1] % per_block:
            raise BundleError(
                f"the rows of {each.name} are no whole blocks of {kind}",
                found=f"{each.shape[-1]} values", expected=f"a multiple of {per_block}", where=path,
            )  # fmt: skip
        if each.name in seen:
            raise BundleError("a tensor comes twice in the file", found=each.name, where=path)
        seen.add(each.name)
        start, size = begin + each.place, math.prod(each.shape) // per_block * num_bytes
        if start + size > len(bytes_):
            missing.append(each.name)
            continue
        yield each.name, Stored(each.name, each.shape, kind, bytes_[start : start + size])
    if missing:
        raise BundleError(
            "the file is cut short: tensors that it lists are not in it",
            found=f"{len(bytes_):,} bytes, without {some(missing)}", where=path,
            hint="copy or download it again",
        )  # fmt: skip


class _Reader:
    """Goes through the bytes of a file, and never past their end."""

    def __init__(self, data: memoryview, path: Path) -> None:
        self.data, self.path, self.place = data, path, 0

    def check_begin(self) -> None:
        """Magic and version."""
        magic, version = self.take(len(MAGIC)), self.number("I")
        if magic != MAGIC:
            raise BundleError("this is no GGUF file", found=f"it begins with {magic!r}",
                              expected=repr(MAGIC), where=self.path)  # fmt: skip
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            raise BundleError(
                "this version of GGUF cannot be read",
                found=f"version {swapped}, of a big-endian machine" if swapped in VERSIONS
                else f"version {version}",
                expected=" or ".join(map(str, VERSIONS)), where=self.path,
                hint="convert the model again with a llama.cpp of today",
            )  # fmt: skip

    def take(self, size: int) -> bytes:
        """So many bytes. Raises `BundleError` at the end of the file."""
        if size > len(self.data) - self.place:
            raise BundleError(
                "the file is cut short, or no GGUF",
                found=f"{len(self.data):,} bytes, of which {self.place:,} were read",
                expected=f"{size:,} more", where=self.path, hint="copy or download it again",
            )  # fmt: skip
        self.place += size
        return bytes(self.data[self.place - size : self.place])

    def number(self, code: str) -> Any:
        """A number, as `struct` calls its type."""
        (value,) = struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))
        return value

    def text(self) -> str:
        """A text: its length, and UTF-8."""
        size = self.number("Q")
        if size > LARGEST_TEXT:
            raise BundleError("a text in the file is too long to be one", found=f"{size:,} bytes",
                              where=self.path)  # fmt: skip
        try:
            return self.take(size).decode()
        except UnicodeDecodeError as error:
            raise BundleError(
                f"a text in the file is not UTF-8: {error.reason}", where=self.path
            ) from error

    def value(self, kind: int, nested: bool = False) -> Any:
        """A value of a type by number: a number, a text, or a list of such."""
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == STRING:
            return self.text()
        if kind != ARRAY or nested:
            raise BundleError(
                "a value in the file is of no known type", found=kind, where=self.path
            )
        inner, count = self.number("I"), self.number("Q")
        if inner in NUMBERS:
            code = np.dtype("<" + NUMBERS[inner].replace("b", "i1").replace("B", "u1"))
            return np.frombuffer(self.take(count * code.itemsize), code).tolist()
        return [self.value(inner, nested=True) for _ in range(count)]

    def listed(self) -> _Listed:
        """A tensor's entry."""
        name, num_axes = self.text(), self.number("I")
        if not 1 <= num_axes <= MOST_AXES:
            raise BundleError(f"the tensor {name} has no such number of axes", found=num_axes,
                              expected=f"1 to {MOST_AXES}", where=self.path)  # fmt: skip
        axes = [self.number("Q") for _ in range(num_axes)]
        if 0 in axes:
            raise BundleError(f"the tensor {name} is empty", found=axes, where=self.path)
        return _Listed(name, tuple(reversed(axes)), self.number("I"), self.number("Q"))


# -- writing -------------------------------------------------------------------------------------


def write_gguf(
    path: Path | str,
    facts: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    kind_of: Callable[[str, Tensor], str],
) -> Path:
    """Write a file of version 3; `kind_of(name, tensor)` says in which type each tensor goes.

    Whole numbers become uint32 (in lists int32), others float32. Raises `RecipeError` for a type
    that is not written here.
    """
    kinds = {name: kind_of(name, tensor) for name, tensor in tensors.items()}
    listed, place = [], 0
    for name, tensor in tensors.items():
        number, per_block, num_bytes = KINDS[kinds[name]]
        axes = tuple(reversed(tensor.shape))
        form = f"<I{len(axes)}QIQ"
        listed.append(_text(name) + struct.pack(form, len(axes), *axes, number, place))
        place += -(-tensor.numel() // per_block * num_bytes // ALIGNMENT) * ALIGNMENT
    told = [_text(name) + _value(value) for name, value in facts.items()]
    counts = struct.pack("<IQQ", VERSIONS[-1], len(listed), len(told))
    head = b"".join([MAGIC, counts, *told, *listed])

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            _padded(file, head)
            for name, tensor in tensors.items():
                _padded(file, _packed(tensor, kinds[name]))

    return write_atomic(expanded(path), write)


def _packed(tensor: Tensor, kind: str) -> bytes:
    """The bytes of a tensor in a type."""
    values = tensor.detach().cpu().float().contiguous().numpy()
    if kind == "F32":
        return values.tobytes()
    if kind == "F16":
        return values.astype(np.float16).tobytes()
    library = _library()
    try:
        return library.quantize(values, library.GGMLQuantizationType[kind]).tobytes()
    except NotImplementedError as error:
        raise RecipeError("tensors are not written in this type", found=kind) from error


def _padded(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    file.write(bytes(-len(data) % ALIGNMENT))


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    """A value with its type."""
    if isinstance(value, list):
        kind = _kind(value[0]) if value else 4
        kind = (
            5 if kind == 4 else kind
        )  # lists of whole numbers are signed, as llama.cpp reads them
        packed = map(_text, value) if kind == STRING else (_number(kind, each) for each in value)
        return struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(packed)
    kind = _kind(value)
    return struct.pack("<I", kind) + (_text(value) if kind == STRING else _number(kind, value))


def _number(kind: int, value: Any) -> bytes:
    return struct.pack("<" + NUMBERS[kind], value)


def _kind(value: Any) -> int:
    """The number of a value's type."""
    if isinstance(value, bool):
        return 7
    if isinstance(value, int):
        return 4
    return 6 if isinstance(value, float) else STRING


def some(names: list[str], most: int = 8) -> str:
    """The first few of many names."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _library() -> Any:
    """What knows the blocks of quantised types."""
    return extra("gguf", "published", "quantised tensors are read and written").quants
