"""Picture files in folders and archives: listing them, opening them, reading class and split names.

An archive (.tar, .tar.gz, .zip) is read in place, member by member; nothing is unpacked to disk.
"""

from __future__ import annotations

import functools
import io
import os
import stat
import tarfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from morphogen.core.codec import Problem, Report
from morphogen.core.errors import DataError
from morphogen.modalities.image.marks import read_mark

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
UNREADABLE_PICTURES = {".heic", ".heif", ".svg", ".psd", ".avif", ".raw", ".cr2", ".nef", ".dng"}
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
TRAIN, TEST = {"train", "training"}, {"test", "testing", "t10k"}
VALIDATION = {"val", "valid", "validation", "dev"}
MAX_FILE_BYTES = 1 << 29  # one picture file of 512 MiB is no picture
MAX_PIXELS = 90_000_000  # beyond this, a small file can be made to fill the memory
DAMAGED_ARCHIVE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
)


@dataclass(frozen=True)
class File:
    """One file of a tree: its path below the root, and how to get its bytes."""

    path: str
    num_bytes: int
    read: Callable[[], bytes]


def is_picture(path: str | Path) -> bool:
    """True when the suffix is one of a picture that can be read."""
    return os.path.splitext(path)[1].lower() in PICTURES


def is_archive(path: str | Path) -> bool:
    """True for .tar, .tar.gz, .zip and their like."""
    return str(path).lower().endswith(ARCHIVES)


def split_of(name: str) -> str | None:
    """The split that a folder, key or column value names; None when it names none."""
    for split, names in (("train", TRAIN), ("test", TEST), ("validation", VALIDATION)):
        if name.lower() in names:
            return split
    return None


def walk(source: Path, report: Report) -> Iterator[File]:
    """The files of a folder in sorted order, or of an archive in its own.

    The archives that lie directly in a folder are walked too: `train.tar.gz` and `test.tar.gz`
    become `train/...` and `test/...`.
    """
    if source.is_file():
        yield from _walk_archive(source, "", report)
        return

    def unreadable(error: OSError) -> None:
        name = os.path.relpath(error.filename, source)
        report.problems.append(
            Problem(name, f"the folder cannot be opened: {error.strerror}", "chmod it", fatal=True)
        )

    for folder, subfolders, names in os.walk(source, onerror=unreadable):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if name.startswith("."):
                continue
            relative = path.relative_to(source).as_posix()
            if "/" not in relative and is_archive(name):
                yield from _walk_archive(path, name.partition(".")[0], report)
                continue
            try:
                num_bytes = path.stat().st_size
            except OSError:  # a dangling link: `read` says so, in its turn
                num_bytes = 0
            yield File(relative, num_bytes, path.read_bytes)


def _walk_archive(path: Path, prefix: str, report: Report) -> Iterator[File]:
    """The regular files of an archive. Pictures that are hidden or links are noted, not read."""
    members = _zip_members if path.suffix.lower() == ".zip" else _tar_members
    hidden, links = [], list[str]()
    try:
        for file in members(path, links):
            parts = [part for part in file.path.split("/") if part not in ("", ".", "..")]
            if not parts or any(part.startswith((".", "__MACOSX")) for part in parts):
                if is_picture(file.path) and not parts[-1].startswith("._"):  # macOS writes these
                    hidden.append(file.path)
                continue
            if prefix and split_of(prefix) and parts[0] != prefix:
                parts.insert(0, prefix)
            yield File("/".join(parts), file.num_bytes, file.read)
    except DAMAGED_ARCHIVE as error:
        raise DataError(
            f"the archive is damaged or cut short: {error}",
            where=str(path),
            hint="copy or download it again",
        ) from error
    for kind, names, fix in (
        ("hidden picture", hidden, "rename it without the leading dot, if it is one of the data"),
        ("link", links, "pack the archive with what links stand for (tar --dereference)"),
    ):
        if pictures := [name for name in names if is_picture(name)]:
            report.problems.append(Problem(path.name, not_read(kind, pictures), fix))


def not_read(kind: str, names: Sequence[str], what: str = "not read") -> str:
    """`3 links not read: a.png, b.png, c.png`, the first three by name."""
    listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names):,} {kind}{'s' * (len(names) != 1)} {what}: {listed}"


def _tar_members(path: Path, links: list[str]) -> Iterator[File]:
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            if member.issym() or member.islnk():
                links.append(member.name)
            elif member.isfile():
                read = functools.partial(_tar_bytes, archive, member)
                yield File(member.name, member.size, read)


def _tar_bytes(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return stream.read() if stream else b""


def _zip_members(path: Path, links: list[str]) -> Iterator[File]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                links.append(member.filename)
            elif not member.is_dir():
                read = functools.partial(archive.read, member)
                yield File(member.filename, member.file_size, read)


def open_file(file: File, report: Report, limit: int = 0) -> Any:
    """The picture in a file, or None with a problem noted."""
    if file.num_bytes > MAX_FILE_BYTES:
        reason = f"the file has {file.num_bytes:,} bytes, more than {MAX_FILE_BYTES:,}"
        _skip(report, file.path, reason, "save the picture smaller")
        return None
    try:
        return open_picture(file.read(), file.path, report, limit)
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError) as error:
        detail = getattr(error, "strerror", None) or str(error)
        _skip(report, file.path, f"the file cannot be read: {detail}", "check its permissions")
        return None


def open_picture(data: bytes, name: str, report: Report, limit: int = 0) -> Any:
    """Bytes -> pixels, upright: (H, W), or (H, W, C) with 3 or 4 channels; uint8, uint16, float32.

    None, with a problem noted, when the bytes are no picture. Pictures whose short side exceeds
    `4 * limit` come back reduced to that, which the later resizing does not see.
    """
    if not data:
        _skip(report, name, "the file is empty", "delete it or copy it again")
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            picture = Pillow.open(io.BytesIO(data))
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise Pillow.DecompressionBombError(f"{width}x{height} pixels")
        _note_header(picture, data, name, report)
        if found := read_mark(picture):
            report.marks[name] = found
        if limit and min(width, height) > 8 * limit:
            picture.draft(None, (4 * limit, 4 * limit))  # JPEG only: decodes at a fraction
        picture.load()
        turned = picture.getexif().get(274, 1) >= 5  # EXIF orientations 5 to 8 swap the axes
        plain = np.asarray(_reduced(plain_mode(ImageOps.exif_transpose(picture)), 4 * limit))
        note_size(report, *((width, height) if turned else (height, width)))
        return plain
    except UnidentifiedImageError:
        reason = f"not a picture: it begins with {data[:12]!r}"
        _skip(report, name, reason, "delete it, or save it again as PNG")
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning, MemoryError):
        reason = f"too large: more than {MAX_PIXELS // 10**6} million pixels"
        _skip(report, name, reason, "save it smaller; a small file this wide may be an attack")
    except Exception as error:  # decoders raise many kinds on damaged files; none may end a run
        reason = f"damaged or cut short ({len(data):,} bytes): {error}"
        _skip(report, name, reason, "copy it again from where it came, or delete it")
    return None


def plain_mode(picture: Pillow.Image) -> Any:
    """Any Pillow mode -> L, RGB, RGBA or I;16; a float picture -> a float32 array in [0, 1]."""
    mode = picture.mode
    if mode in ("L", "RGB", "RGBA", "I;16"):
        return picture
    if mode in ("LA", "La", "PA", "RGBa") or (mode == "P" and "transparency" in picture.info):
        return picture.convert("RGBA")
    if mode == "1":
        return picture.convert("L")
    if mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"values {values.min()} to {values.max()} exceed 16 bits")
        return Pillow.fromarray(values.astype(np.uint16))
    if mode == "F":
        values = np.asarray(picture, dtype=np.float32)
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError("a floating-point picture needs values in [0, 1]")
        return values
    return picture.convert("RGB")


def _reduced(picture: Any, short: int) -> Any:
    """Shrink an 8-bit picture to the short side `short`, when it is at least twice as large."""
    if not (short and isinstance(picture, Pillow.Image)) or picture.mode == "I;16":
        return picture
    factor = min(picture.size) // short
    return picture.reduce(factor) if factor >= 2 else picture


def _note_header(picture: Pillow.Image, data: bytes, name: str, report: Report) -> None:
    """Say what Pillow would do silently: drop later frames, and the low byte of 16-bit colour."""
    if getattr(picture, "is_animated", False):
        report.facts["first_frame_only"] = report.facts.get("first_frame_only", 0) + 1
    if picture.format == "PNG" and len(data) > 25 and data[24] == 16 and data[25] in (2, 4, 6):
        reason = "16-bit colour is read as 8-bit colour"
        fix = "nothing, if 8 bits are enough; else save the channels as 16-bit grey"
        report.problems.append(Problem(name, reason, fix))


def note_size(report: Report, height: int, width: int, count: int = 1) -> None:
    """Count pictures of a size, as they are in the source."""
    sizes = report.facts.setdefault("sizes", {})
    sizes[f"{width}x{height}"] = sizes.get(f"{width}x{height}", 0) + count


def _skip(report: Report, name: str, reason: str, fix: str) -> None:
    report.problems.append(Problem(name, reason, fix, fatal=True))


@dataclass(frozen=True)
class Layout:
    """What the folder names mean: a common root that says nothing, splits, classes."""

    root: tuple[str, ...] = ()
    has_splits: bool = False

    @classmethod
    def of(cls, paths: Iterable[str]) -> Layout:
        """Read the meaning off all picture paths."""
        folders = [tuple(path.split("/")[:-1]) for path in paths]
        root: tuple[str, ...] = ()
        while folders and all(folders):
            first = {parts[0] for parts in folders}
            if len(first) > 1:  # a lone train/ or test/ says no more than a lone photos/
                break
            root += tuple(first)
            folders = [parts[1:] for parts in folders]
        first = {parts[0] for parts in folders if parts}
        splits = {split_of(name) for name in first}
        return cls(root, "train" in splits and None not in splits)

    def read(self, path: str) -> tuple[str | None, str | None]:
        """path -> (split, class), None where the path names none."""
        parts = path.split("/")[len(self.root) : -1]
        split = None
        if self.has_splits and parts:
            split, parts = split_of(parts[0]), parts[1:]
        return split, (parts[0] if parts else None)


def note_other_files(others: Iterable[str], report: Report) -> None:
    """One note per suffix for files that are not pictures; pictures in unread formats are skipped
    items, each with its own problem."""
    kept: dict[str, list[str]] = {}
    for path in others:
        suffix = PurePosixPath(path).suffix.lower()
        if suffix in UNREADABLE_PICTURES:
            _skip(report, path, f"{suffix} is not read", "convert it to PNG or JPEG")
        else:
            kept.setdefault(suffix, []).append(path)
    for suffix, paths in kept.items():
        reason = not_read(f"{suffix or 'suffixless'} file", paths, "not read as pictures")
        report.problems.append(Problem(report.source, reason, "nothing, if they are no pictures"))


def count_suffixes(source: Path, most: int = 100_000) -> Counter[str]:
    """How many files of each suffix a folder or archive holds, looking at `most` at most."""
    counts: Counter[str] = Counter()
    for number, file in enumerate(walk(source, Report(str(source)))):
        if number >= most:
            break
        counts[PurePosixPath(file.path).suffix.lower()] += 1
    return counts
