"""NumPy's .npz and .npy: one stack of items, one item, or a folder of files with one item each."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from morphogen.core.codec import Problem, Report
from morphogen.core.errors import DataError
from morphogen.sources._files import only
from morphogen.sources._layout import Layout
from morphogen.sources._record import Record, Shape, Source, Survey, Wants
from morphogen.sources._regular import open_regular
from morphogen.sources._stacks import (
    Stack,
    item_keys,
    label_key,
    plain_labels,
    records_of_stacks,
)

DAMAGED = (
    OSError, ValueError, EOFError, RuntimeError, SyntaxError, TypeError, KeyError, MemoryError,
    OverflowError, NotImplementedError, zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip
FEW = 32  # files of a folder whose headers are read to see what there is


class NumpyFile(Source):
    """A .npz or .npy file, or a folder of .npy files."""

    kind = "arrays"

    @classmethod
    def opens(cls, source: Any) -> float:
        if not isinstance(source, (str, Path)):
            return 0.0
        path = Path(source)
        if path.is_file():
            return 0.9 if path.suffix.lower() in (".npz", ".npy") else 0.0
        return 0.8 if path.is_dir() and cls.files_of(path) else 0.0

    @staticmethod
    def files_of(folder: Path) -> list[Path]:
        """The .npy files of a folder that holds nothing else but notes."""
        return only(folder, (".npy",))

    def survey(self) -> Survey:
        path = Path(self.source)
        try:
            if path.is_file():
                return Survey("arrays", arrays=array_shapes(path), name=f"a {path.suffix} file")
            files = self.files_of(path)
            shapes = {each.name: array_shapes(each)[""] for each in files[:FEW]}
            stack = _together([shape for shape, _ in shapes.values()])
            if stack and len(files) > 1:
                dtype = next(iter(shapes.values()))[1]
                shapes = {"all": ((len(files), *stack), dtype), **shapes}
            return Survey(
                "arrays", arrays=shapes, num=len(files), name=f"{len(files):,} .npy files"
            )
        except DataError as error:
            return Survey("arrays", damaged=error, name=f"a {path.suffix} file")

    def records(self, wants: Wants, report: Report) -> Iterator[Record]:
        path = Path(self.source)
        if path.is_file():
            stacks = read_numpy(path, wants, report)
            yield from records_of_stacks(stacks, wants, str(path))
            return
        yield from _folder(path, self.files_of(path), wants, report)


def array_shapes(path: Path) -> dict[str, tuple[Shape, np.dtype[Any]]]:
    """Key -> (shape, dtype), read from the headers alone; raises `DataError` for a damaged file."""
    try:
        with open_regular(path) as stream:
            if path.suffix.lower() == ".npy":
                return {"": _header(stream)}
            with zipfile.ZipFile(stream) as archive:
                found = {}
                for name in archive.namelist():
                    with archive.open(name) as member:
                        found[name.removesuffix(".npy")] = _header(member)
                return found
    except DAMAGED as error:
        raise DataError(
            f"the file is damaged or no NumPy file: {error}",
            where=str(path),
            hint="save it again with numpy.savez",
        ) from error


def _header(stream: IO[bytes]) -> tuple[Shape, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
    reader = reader or np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(stream)
    return shape, dtype


def read_numpy(path: Path, wants: Wants, report: Report) -> list[Stack]:
    """Every split of an .npz or .npy file. Labels are the arrays with one value per item."""
    shapes = array_shapes(path)
    keys = item_keys({k: s for k, s in shapes.items() if s[1].kind != "O"}, wants)
    if not keys:
        listed = ", ".join(f"{key or 'array'} {shape}" for key, (shape, _) in shapes.items())
        objects = any(dtype.kind == "O" for _, dtype in shapes.values())
        raise DataError(
            f"no array has the shape of {wants.what}s",
            found=(listed or "no arrays") + (" of Python objects" if objects else ""),
            expected=wants.shapes or None,
            where=str(path),
            hint="Python objects are not read, as they could run code: save items of different "
            f"size as files, one {wants.what} each"
            if objects
            else None,
        )
    check_memory(sum(math.prod(shapes[k][0]) * shapes[k][1].itemsize for k in keys.values()), path)
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(path, mmap_mode="r", allow_pickle=False)
            return [Stack(path.name, None, values)]
        stacks = []
        with np.load(path, allow_pickle=False) as arrays:
            for split, key in keys.items():
                named, labels = label_key(shapes, split, key), None
                if named and shapes[named][1].kind == "O":
                    reason = (
                        f"labels are not read: {named} holds Python objects, which could run code"
                    )
                    fix = f"save them as text: numpy.savez(..., {named}={named}.astype(str))"
                    report.problems.append(Problem(str(path), reason, fix))
                elif named:
                    labels = plain_labels(arrays[named], named, str(path), report)
                stacks.append(Stack(key, split, arrays[key], labels))
        return stacks
    except DAMAGED as error:
        raise DataError(f"the file is damaged: {error}", where=str(path)) from error


def check_memory(num_bytes: int, path: Path) -> None:
    """Raise `DataError` when an array that a file declares would not fit into memory."""
    import psutil

    available = psutil.virtual_memory().available
    if num_bytes > available:
        raise DataError(
            "the array does not fit into memory",
            found=f"{num_bytes / 2**30:,.1f} GiB declared",
            expected=f"at most {available / 2**30:,.1f} GiB",
            where=str(path),
            hint="save the items as files in a folder: they are read one by one",
        )


# -- folders --------------------------------------------------------------------------------------


def _together(shapes: list[Shape]) -> Shape | None:
    """The shape that all files share, or None."""
    return shapes[0] if shapes and len(set(shapes)) == 1 else None


def _folder(root: Path, files: list[Path], wants: Wants, report: Report) -> Iterator[Record]:
    """Files that would be items side by side are one item each; others are stacks."""
    names = [path.relative_to(root).as_posix() for path in files]
    layout = Layout.of(names)
    for path, name in zip(files, names, strict=True):
        split, label = layout.read(name)
        cond = {} if label is None else {"label": label}
        try:
            shape, dtype = array_shapes(path)[""]
        except DataError as error:
            report.problems.append(Problem(name, error.message, error.hint or "", fatal=True))
            continue
        if wants.arrays is not None and wants.arrays((len(files), *shape), dtype):
            yield Record(name, "array", partial(_load, path), ".npy", cond, split, path=path)
            continue
        for record in records_of_stacks([Stack(name, split, _load(path))], wants, str(path)):
            record.cond |= cond
            yield record


def _load(path: Path) -> np.ndarray:
    try:
        values: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGED as error:
        raise DataError(f"the file is damaged: {error}", hint="save it again") from error
    return values
