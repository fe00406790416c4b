"""Reading files that a stranger may have made: regular ones only, up to a size, inside the source.

A named pipe never ends, a link may lead to a device that gives zeros for ever, a table may name
files that are none of its business: each is refused in words that show nothing of their contents.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO

from morphogen.core.errors import DataError

MAX_FILE_BYTES = 1 << 29  # one item of 512 MiB is no item
BLOCK = 1 << 26  # bytes read at once
ROOTS = "MORPHOGEN_ROOTS"  # folders outside a table's own that it may name files in
NONBLOCK = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
)
STARTS = (
    (b"\x89PNG", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"GIF8", "GIF"), (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"), (b"%PDF", "PDF"), (b"PK\x03\x04", "a zip archive"), (b"\x1f\x8b", "gzip"),
    (b"\x89HDF", "HDF5"), (b"version https://git-lfs", "a pointer of Git LFS"),
    (b"<!DOCTYPE", "HTML"), (b"<html", "HTML"), (b"<?xml", "XML"), (b"<svg", "SVG"),
    (b"\xd0\xcf\x11\xe0", "an old Office or Thumbs.db file"), (b"\0\5\x16\7", "macOS metadata"),
    (b"MATLAB", "MATLAB"), (b"SQLite format 3", "SQLite"), (b"\x93NUMPY", "NumPy"),
    (b"RIFF", "RIFF"), (b"OggS", "Ogg"), (b"ID3", "MP3"), (b"fLaC", "FLAC"), (b"PAR1", "Parquet"),
)  # fmt: skip


def open_regular(path: str | Path) -> IO[bytes]:
    """Open a regular file, through links; raises `DataError` for anything that is none."""
    try:
        check_regular(os.stat(path), path)
        stream = open(os.open(path, os.O_RDONLY | NONBLOCK), "rb")  # noqa: SIM115
    except OSError as error:
        raise _unreadable(path, error) from error
    check_regular(os.fstat(stream.fileno()), path)  # another may stand there by now
    return stream


def _unreadable(path: str | Path, error: OSError) -> DataError:
    return DataError(
        f"the file cannot be read: {error.strerror or error}",
        where=str(path),
        hint="check its permissions" if os.path.lexists(path) else "check the path",
    )


def check_regular(state: os.stat_result, path: str | Path) -> None:
    """Raise `DataError` naming what a path is when it is no regular file."""
    if stat.S_ISREG(state.st_mode):
        return
    found = next((name for test, name in KINDS if test(state.st_mode)), "no file")
    raise DataError(
        f"not a regular file but {found}",
        where=str(path),
        hint="delete it, or copy what it stands for into a file",
    )


def read_regular(path: str | Path, most: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a regular file; raises `DataError` when there are more than `most`."""
    try:
        check_regular(os.stat(path), path)
        file = os.open(path, os.O_RDONLY | NONBLOCK)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:  # without a stream around it: most files are small and many
        state = os.fstat(file)
        check_regular(state, path)
        if state.st_size > most:
            raise too_large(state.st_size, most)
        blocks = []
        left = most + 1
        while left > 0:
            asked = min(left, state.st_size + 1, BLOCK)
            blocks.append(os.read(file, asked))
            left -= len(blocks[-1])
            if len(blocks[-1]) < asked:  # of a regular file, less comes only at its end
                break
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(file)
    if left <= 0:
        raise too_large(most + 1, most)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def too_large(num_bytes: int, most: int = MAX_FILE_BYTES) -> DataError:
    """The error for a file that is longer than an item can be."""
    return DataError(
        f"the file has {num_bytes:,} bytes, more than {most:,}", hint="save it smaller, or in parts"
    )


def again(data: bytes) -> str:
    """What to do about a file that holds this in place of what it should: where it comes from
    tells."""
    head = data.lstrip()[:24].lower()
    if head.startswith(b"version https://git-lfs"):
        return "fetch what it stands for: git lfs pull"
    if head.startswith((b"<!doctype", b"<html")):
        return "download it again: this is a web page, which servers send in place of a file"
    return "delete it, or save it again"


def begins(data: bytes) -> str:
    """What bytes begin with, in words that give nothing away: a known kind, text, or 4 bytes."""
    head = data.lstrip()[:24]
    for start, name in STARTS:
        if head.lower().startswith(start.lower()):
            return name
    if not data[:64].strip(b"\0"):
        return "zeros"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in data[:64]):
        return "text"
    return " ".join(f"{byte:02x}" for byte in data[:4])


def inside(folder: Path, file: str) -> Path:
    """The path of a file that a table in `folder` names.

    Raises `DataError` when it leads out of the folder, unless into one of `MORPHOGEN_ROOTS`.
    """
    try:
        path = folder / file
        real, home = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    except (OSError, ValueError) as error:
        raise DataError("not a path", hint="correct it or delete the row") from error
    named = Path(os.path.abspath(path))
    if named.is_relative_to(os.path.abspath(folder)) or real.is_relative_to(home):
        return path
    roots = [each for each in os.environ.get(ROOTS, "").split(os.pathsep) if each]
    if any(real.is_relative_to(os.path.realpath(root)) for root in roots):
        return path
    raise DataError(
        f"the path leaves the folder: {file}",
        hint=f"copy the file below {folder}, or allow its folder: export {ROOTS}=/the/folder",
    )
