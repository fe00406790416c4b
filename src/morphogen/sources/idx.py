"""idx files, the format of MNIST: one stack of items a file, labels in a file beside it."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from morphogen.core.codec import Report
from morphogen.core.errors import DataError
from morphogen.sources._layout import split_of
from morphogen.sources._record import Record, Source, Survey, Wants
from morphogen.sources._regular import begins, open_regular
from morphogen.sources._stacks import Stack, records_of_stacks
from morphogen.sources.numpy_file import check_memory

TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
NAME = re.compile(r"(?P<before>.*)images(?P<middle>[-._]idx)3(?P<after>[-._]ubyte(\.gz)?)$")


class Idx(Source):
    """An idx file, or a folder of them."""

    kind = "arrays"

    @classmethod
    def opens(cls, source: Any) -> float:
        if not isinstance(source, (str, Path)):
            return 0.0
        path = Path(source)
        if path.is_dir():
            return 0.9 if idx_files(path) else 0.0
        return 0.7 if path.is_file() and idx_header(path) else 0.0

    def survey(self) -> Survey:
        path = Path(self.source)
        files = idx_files(path) if path.is_dir() else [path]
        found = {each.name: header for each in files if (header := idx_header(each))}
        many = f"{len(files)} idx file{'s' * (len(files) > 1)}"
        return Survey("arrays", arrays=found, name=many if path.is_dir() else "an idx file")

    def records(self, wants: Wants, report: Report) -> Iterator[Record]:
        path = Path(self.source)
        stacks = read_idx_stacks(idx_files(path) if path.is_dir() else [path])
        yield from records_of_stacks(stacks, wants, str(path))


def idx_files(folder: Path) -> list[Path]:
    """The item files of a folder in MNIST's format; of a pair, the one that is not zipped."""
    found = sorted(path for path in folder.iterdir() if NAME.match(path.name) and path.is_file())
    return [p for p in found if not (p.suffix == ".gz" and p.with_suffix("") in found)]


def idx_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
    """The shape and type that an idx file declares; None when the file is no idx file."""
    try:
        with _open(path) as stream:
            head = stream.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES:
                return None
            sizes = stream.read(4 * head[3])
    except (DataError, OSError, EOFError, zlib.error):
        return None
    shape = tuple(int(n) for n in np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4"))
    return shape, np.dtype(TYPES[head[2]])


def read_idx(path: Path) -> np.ndarray:
    """An idx file: two zero bytes, type, number of axes, each axis (4 bytes), then the values.

    Raises `DataError` with the bytes found and expected when the file is cut short.
    """
    with _open(path) as stream:
        head = _read_up_to(stream, 4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES:
            raise DataError(
                "not an idx file",
                found=f"it begins with {begins(head)}",
                expected="two zero bytes, a type from 0x08 to 0x0E, the number of axes",
                where=str(path),
            )
        sizes = _read_up_to(stream, 4 * head[3])
        shape = tuple(int(n) for n in np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4"))
        dtype = np.dtype(TYPES[head[2]])
        expected = math.prod(shape) * dtype.itemsize if len(shape) == head[3] else 1
        check_memory(expected, path)
        values = _read_up_to(stream, expected)
    if len(values) < expected or len(shape) != head[3]:
        raise DataError(
            "the idx file is cut short",
            found=f"{len(values):,} bytes of values",
            expected=f"{expected:,} bytes: {' x '.join(map(str, shape))} x {dtype.itemsize}",
            where=str(path),
            hint="copy or download it again",
        )
    return np.frombuffer(values, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def read_idx_stacks(paths: Sequence[Path]) -> list[Stack]:
    """Item files with the label files that lie beside them."""
    stacks = []
    for path in paths:
        match = NAME.match(path.name)
        labels, words = None, []
        if match:
            stem = f"{match['before']}labels{match['middle']}1{match['after']}"
            beside = [path.with_name(stem), path.with_name(stem.removesuffix(".gz"))]
            beside.append(path.with_name(stem.removesuffix(".gz") + ".gz"))
            file = next((candidate for candidate in beside if candidate.is_file()), None)
            labels = read_idx(file).tolist() if file else None
            words = re.split(r"[-._]", match["before"])
        split = next((split_of(word) for word in words if split_of(word)), None)
        stacks.append(Stack(path.name, split, read_idx(path), labels))
    return stacks


def _open(path: Path) -> IO[bytes]:
    stream = open_regular(path)
    return cast(IO[bytes], gzip.open(stream, "rb")) if path.suffix == ".gz" else stream


def _read_up_to(stream: IO[bytes], count: int) -> bytes:
    """`count` bytes, or as many as a file that is cut short still gives."""
    values = bytearray()
    try:
        while len(values) < count:
            chunk = stream.read(min(1 << 20, count - len(values)))
            if not chunk:
                break
            values += chunk
    except (EOFError, zlib.error, gzip.BadGzipFile):
        pass  # the caller compares the length
    return bytes(values)
