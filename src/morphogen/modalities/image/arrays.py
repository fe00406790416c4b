"""Pictures in arrays: idx files (the format of MNIST), .npz, .npy, and arrays in memory.

Legend: N items, H height, W width, C channels.
"""

from __future__ import annotations

import gzip
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from morphogen.core.codec import Item, Problem, Report
from morphogen.core.errors import DataError
from morphogen.modalities.image.files import note_size, split_of

IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
IDX_NAME = re.compile(r"(?P<before>.*)images(?P<middle>[-._]idx)3(?P<after>[-._]ubyte(\.gz)?)$")
LABEL_WORDS = ("label", "class", "target", "y")
FEW_LEVELS = 16  # whole numbers up to here count levels (scikit-learn's digits run from 0 to 16)


@dataclass(frozen=True)
class Part:
    """One split of an array source."""

    name: str
    split: str | None
    images: np.ndarray
    labels: Sequence[Any] | None


# -- idx ------------------------------------------------------------------------------------------


def idx_files(folder: Path) -> list[Path]:
    """The image files of a folder in MNIST's format; of a pair, the one that is not zipped."""
    found = sorted(path for path in folder.iterdir() if IDX_NAME.match(path.name))
    return [p for p in found if not (p.suffix == ".gz" and p.with_suffix("") in found)]


def idx_shape(path: Path) -> tuple[int, ...] | None:
    """The shape that an idx file declares; None when the file is no idx file."""
    try:
        with _open(path) as stream:
            head = stream.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_TYPES:
                return None
            sizes = stream.read(4 * head[3])
    except (OSError, EOFError, zlib.error):
        return None
    return tuple(int(n) for n in np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4"))


def read_idx(path: Path) -> np.ndarray:
    """An idx file: two zero bytes, type, number of axes, each axis (4 bytes), then the values.

    Raises `DataError` with the bytes found and expected when the file is cut short.
    """
    with _open(path) as stream:
        head = _read_up_to(stream, 4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_TYPES:
            raise DataError(
                "not an idx file",
                found=f"it begins with {head!r}",
                expected="two zero bytes, a type from 0x08 to 0x0E, the number of axes",
                where=str(path),
            )
        sizes = _read_up_to(stream, 4 * head[3])
        shape = tuple(int(n) for n in np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4"))
        dtype = np.dtype(IDX_TYPES[head[2]])
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


def read_idx_parts(paths: Sequence[Path]) -> list[Part]:
    """Image files with the label files that lie beside them."""
    parts = []
    for path in paths:
        match = IDX_NAME.match(path.name)
        labels, words = None, []
        if match:
            stem = f"{match['before']}labels{match['middle']}1{match['after']}"
            beside = [path.with_name(stem), path.with_name(stem.removesuffix(".gz"))]
            beside.append(path.with_name(stem.removesuffix(".gz") + ".gz"))
            file = next((candidate for candidate in beside if candidate.is_file()), None)
            labels = read_idx(file) if file else None
            words = re.split(r"[-._]", match["before"])
        split = next((split_of(word) for word in words if split_of(word)), None)
        images = read_idx(path)
        parts.append(Part(path.name, split, images, checked_labels(labels, images, path)))
    return parts


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


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


# -- npz and npy ----------------------------------------------------------------------------------


def array_shapes(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Key -> (shape, dtype), read from the headers alone; raises `DataError` for a damaged file."""
    try:
        if path.suffix == ".npy":
            with path.open("rb") as stream:
                return {"": _header(stream)}
        with zipfile.ZipFile(path) as archive:
            found = {}
            for name in archive.namelist():
                with archive.open(name) as member:
                    found[name.removesuffix(".npy")] = _header(member)
            return found
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"the file is damaged or no NumPy file: {error}",
            where=str(path),
            hint="save it again with numpy.savez",
        ) from error


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
    reader = reader or np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(stream)
    return shape, dtype


def is_image_shape(shape: Sequence[int]) -> bool:
    """True for (N, H, W), (N, H, W, C) and (N, C, H, W) with 1, 3 or 4 channels."""
    if len(shape) == 4:
        return shape[-1] in (1, 3, 4) or shape[1] in (1, 3, 4)
    return len(shape) == 3


def image_keys(shapes: Mapping[str, tuple[tuple[int, ...], Any]]) -> dict[str | None, str]:
    """Split -> the key whose array has the shape of pictures; `x_train` names a split."""
    found: dict[str | None, str] = {}
    for key, (shape, dtype) in shapes.items():
        if is_image_shape(shape) and dtype.kind in "uifb":
            found.setdefault(_split_in(key), key)
    return found


def read_numpy(path: Path) -> list[Part]:
    """Every split of an .npz or .npy file. Labels are the arrays with one value per picture."""
    shapes = array_shapes(path)
    keys = image_keys(shapes)
    if not keys:
        listed = ", ".join(f"{key or 'array'} {shape}" for key, (shape, _) in shapes.items())
        raise DataError(
            "no array has the shape of pictures",
            found=listed or "no arrays",
            expected="(N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels",
            where=str(path),
        )
    check_memory(sum(math.prod(shapes[k][0]) * shapes[k][1].itemsize for k in keys.values()), path)
    if path.suffix == ".npy":
        return [Part(path.name, None, np.load(path, mmap_mode="r", allow_pickle=False), None)]
    parts = []
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for split, key in keys.items():
                images = arrays[key]
                label_key = _label_key(shapes, split, images.shape[0])
                labels = arrays[label_key].reshape(-1) if label_key else None
                part = Part(key, split, images, checked_labels(labels, images, path))
                parts.append(part)
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"the file is damaged: {error}", where=str(path)) from error
    return parts


def _label_key(
    shapes: Mapping[str, tuple[tuple[int, ...], Any]], split: str | None, count: int
) -> str | None:
    """The key of the labels: one named so, else the only whole-number vector of the length."""
    vectors = {
        key: shape
        for key, (shape, dtype) in shapes.items()
        if _split_in(key) == split
        and dtype.kind in "uiUb"
        and (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1))
    }
    words = {key: re.split(r"[-_.]", key.lower()) for key in vectors}
    named = [k for k in vectors if any(w.rstrip("s") in LABEL_WORDS for w in words[k])]
    fitting = [key for key, shape in vectors.items() if shape[0] == count]
    return next(iter(named), fitting[0] if len(fitting) == 1 else None)


def _split_in(key: str) -> str | None:
    words = re.split(r"[-_./]", key.lower())
    return next((split_of(word) for word in words if split_of(word)), None)


def checked_labels(labels: Any, images: np.ndarray, where: Path | str) -> Sequence[Any] | None:
    """The labels, one per picture; raises `DataError` when there are more or fewer."""
    if labels is not None and len(labels) != len(images):
        raise DataError(
            "there are not as many labels as pictures",
            found=f"{len(labels):,} labels",
            expected=f"{len(images):,}, one per picture",
            where=str(where),
        )
    return labels


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
            hint="save the pictures as files in a folder: they are read one by one",
        )


# -- arrays to items ------------------------------------------------------------------------------


def items_of(parts: Sequence[Part], report: Report) -> Iterator[Item]:
    """The pictures of arrays as uint8, uint16, or float32 in [0, 1]; each (H, W) or (H, W, C).

    The scale is read off the training part and applied to all.
    """
    parts = sorted(parts, key=lambda part: part.split not in (None, "train"))
    scale = Scale.of(channels_last(parts[0].images), report)
    for part in parts:
        images = channels_last(part.images)
        names = part.labels if part.labels is None else np.asarray(part.labels).tolist()
        note_size(report, images.shape[1], images.shape[2], len(images))
        for row, image in enumerate(images):
            name = f"{part.name}#{row}"
            if images.dtype.kind == "f" and not np.isfinite(image).all():
                fix = "replace the missing values or delete the row"
                report.problems.append(Problem(name, "NaN or infinite values", fix, fatal=True))
                continue
            cond = {} if names is None else {"label": names[row]}
            yield Item(scale.apply(image), name, cond, part.split)


def channels_last(images: np.ndarray) -> np.ndarray:
    """(N, C, H, W) or (N, H, W, 1) -> (N, H, W, C) or (N, H, W)."""
    if not is_image_shape(images.shape) or images.dtype.kind not in "uifb":
        raise DataError(
            "the array does not have the shape of pictures",
            found=f"{images.dtype} {images.shape}",
            expected="numbers (N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels",
        )
    if images.ndim == 4 and images.shape[-1] not in (1, 3, 4):
        images = images.transpose(0, 2, 3, 1)  # (N, H, W, C)
    return images[..., 0] if images.ndim == 4 and images.shape[-1] == 1 else images


@dataclass(frozen=True)
class Scale:
    """value -> (value - low) / span in [0, 1], or kept as whole numbers of `dtype`."""

    low: float = 0.0
    span: float = 1.0
    dtype: str = "float32"

    @classmethod
    def of(cls, images: np.ndarray, report: Report) -> Scale:
        """The scale of an array: 8 or 16 bits, few levels, [0, 1], [-1, 1], or its own range."""
        if images.dtype in (np.uint8, np.uint16):
            grey = images.ndim == 3
            if images.dtype == np.uint16 and not grey:
                report.facts["colour_16_bit"] = "16-bit colour is read as 8-bit colour"
                return cls(0, 65535 / 255, "uint8")
            return cls(dtype=images.dtype.name)
        if images.dtype == np.bool_:
            return cls(0, 1 / 255, "uint8")
        finite = images[np.isfinite(images)] if images.dtype.kind == "f" else images
        if not finite.size:
            raise DataError("the array has no finite values", found=f"shape {images.shape}")
        low, high = float(finite.min()), float(finite.max())
        whole = images.dtype.kind in "iu" or bool(np.all(np.mod(finite[:1_000_000], 1) == 0))
        if low >= 0 and high <= 1:
            return cls()
        if low >= -1 and high <= 1:
            return cls(-1, 2)
        if whole and low >= 0 and high <= 65535 and (high <= 255 or images.ndim == 3):
            if high <= FEW_LEVELS:
                return cls(0, high)
            return cls(dtype="uint8" if high <= 255 else "uint16")
        report.facts["range"] = f"values {low:g} to {high:g} are scaled to [-1, 1]"
        return cls(low, max(high - low, 1e-12))

    def apply(self, image: np.ndarray) -> np.ndarray:
        """One picture on this scale, clipped to it."""
        if image.dtype == self.dtype and self.dtype != "float32":
            return image
        values = (image.astype(np.float64) - self.low) / self.span
        if self.dtype == "float32":
            return np.clip(values, 0, 1).astype(np.float32)
        top = np.iinfo(self.dtype).max
        return np.clip(np.rint(values), 0, top).astype(self.dtype)
