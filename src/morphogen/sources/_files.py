"""The files of a folder or an archive, by name: what is hidden, linked or litter is left out.

Links are followed to regular files and to folders, never in circles. The archives that lie directly
in a folder are part of it. Nothing is unpacked to disk.
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from morphogen.core.codec import SPLITS_FILE, Problem
from morphogen.core.errors import DataError
from morphogen.sources._layout import SHARD, split_of, split_of_shard
from morphogen.sources._regular import MAX_FILE_BYTES, open_regular, read_regular, too_large

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
LITTER = {
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "@eadir", "icon\r",
    "system volume information", "lost+found", "picasa.ini", "zbthumbnail.info",
}  # fmt: skip
BESIDE = (
    ".md",
    ".txt",
    ".json",
    ".yaml",
    ".yml",
    ".lock",
    ".credential",
)  # notes on what a folder holds
NOTE = re.compile(
    r"(read[-_ ]?me|licen[cs]e|notice|citation|change[-_ ]?log|dataset_infos?)[-_.\w]*"
)
DEEPEST = 64  # folders within folders
DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError,
    NotImplementedError, ValueError,
)  # fmt: skip


@dataclass(slots=True)
class File:
    """One file: its name below the source, and how to get its bytes."""

    path: str
    place: str  # the path that says what its folders mean
    read: Callable[[], bytes]
    disk: str = ""  # where it lies, when it lies in no archive
    num_bytes: int = -1  # unknown


@dataclass
class Listing:
    """What a walk saw besides files: kept as names, told together."""

    problems: list[Problem] = field(default_factory=list)
    hidden: dict[str, list[str]] = field(default_factory=dict)  # archive -> members
    links: dict[str, list[str]] = field(default_factory=dict)


def is_archive(path: str | Path) -> bool:
    """True for .tar, .tar.gz, .zip and their like."""
    return str(path).lower().endswith(ARCHIVES)


def is_hidden(name: str) -> bool:
    """True for names that begin with a dot, and for what systems leave behind."""
    return name.startswith(".") or name.lower() in LITTER


def walk(source: Path, seen: Listing) -> Iterator[File]:
    """The files of a folder in sorted order, or of an archive in its own.

    Of archives that lie directly in a folder, `train.tar.gz` and `test.tar.gz` become `train/...`
    and `test/...`, numbered ones are parts of one whole, and `cat.zip` and `dog.zip` are folders.
    One of several that is damaged is noted, and what stands before the damage is read; raises
    `DataError` where it is the only one, or all are.
    """
    if source.is_file():
        yield from walk_archive(source, "", "", seen)
        return
    home = (os.stat(source).st_dev, os.stat(source).st_ino)
    entries = list(_walk(str(source), "", [home], {home}, seen))
    prefixes = _prefixes([entry.path for entry in entries if _is_part(entry.path)])
    damaged: list[DataError] = []
    for entry in entries:
        if entry.path not in prefixes:
            yield entry
            continue
        try:
            yield from walk_archive(Path(entry.disk), *prefixes[entry.path], seen)
        except DataError as error:
            damaged.append(error)
            reason = f"{error.message}; what stands after that is not read"
            fix = error.hint or "copy it again"
            seen.problems.append(Problem(entry.path, reason, fix, fatal=True))
            if len(damaged) == len(prefixes):
                raise


def only(folder: Path, suffixes: Sequence[str], beside: Sequence[str] = BESIDE) -> list[Path]:
    """The files of a folder, where all have these suffixes but notes: README.md, what has a suffix
    `beside`, and the file of splits; else none.

    Ends at the first file of another kind, so that a folder of pictures is left at once.
    """
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(names):
            stem, suffix = os.path.splitext(name.lower())
            if is_hidden(name) or suffix in beside or NOTE.fullmatch(stem):
                continue
            if name == SPLITS_FILE and place == str(folder):
                continue
            if suffix not in suffixes or not os.path.isfile(os.path.join(place, name)):
                return []
            found.append(Path(place, name))
    return found


def _is_part(relative: str) -> bool:
    return "/" not in relative and is_archive(relative)


def _walk(
    folder: str,
    prefix: str,
    above: list[tuple[int, int]],
    done: set[tuple[int, int]],
    seen: Listing,
) -> Iterator[File]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        reason = f"the folder cannot be opened: {error.strerror}"
        name = prefix.rstrip("/") or folder
        seen.problems.append(Problem(name, reason, "chmod it", fatal=True))
        return
    folders = []
    for entry in entries:
        if is_hidden(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and entry.is_dir()):
            folders.append(entry)
        else:
            path = entry.path
            yield File(prefix + entry.name, prefix + entry.name, partial(read_regular, path), path)
    for entry in folders:
        state = entry.stat()
        key, name = (state.st_dev, state.st_ino), prefix + entry.name
        if key in above or len(above) > DEEPEST:
            continue  # a loop: `defects` names it
        if entry.is_symlink() and key in done:
            reason = "a link to a folder that is read already"
            seen.problems.append(Problem(name, reason, "delete the link, or nothing"))
            continue
        done.add(key)
        yield from _walk(entry.path, name + "/", [*above, key], done, seen)


def _prefixes(archives: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Archive -> what goes before the names of its members, and before their places."""
    stems = {name: name.partition(".")[0] for name in archives}
    if len(archives) < 2:
        return {name: ("", stem if split_of(stem) else "") for name, stem in stems.items()}
    if all(split_of(stem) for stem in stems.values()):
        return {name: ("", stem) for name, stem in stems.items()}
    if len({SHARD.sub("", stem) for stem in stems.values()}) < len(stems):  # numbered parts
        splits = {name: split_of_shard(stem) for name, stem in stems.items()}
        return {name: (stem, splits[name] or "") for name, stem in stems.items()}
    return {name: (stem, stem) for name, stem in stems.items()}


# -- archives -------------------------------------------------------------------------------------


def walk_archive(path: Path, name: str, place: str, seen: Listing) -> Iterator[File]:
    """The regular files of an archive, each to be read before the next is asked for.

    What is hidden or a link is noted, not read, and so is an end that comes too early. Raises
    `DataError` for a locked or damaged archive.
    """
    hidden = seen.hidden.setdefault(path.name, [])
    links = seen.links.setdefault(path.name, [])
    is_zip = path.suffix.lower() == ".zip"
    members = _zip_members(path, links) if is_zip else _tar_members(path, links, seen)
    try:
        for member, num_bytes, read in members:
            parts = [part for part in member.split("/") if part not in ("", ".", "..")]
            if not parts or any(is_hidden(part) for part in parts):
                if parts and not parts[-1].startswith("._"):  # macOS writes these
                    hidden.append(member)
                continue
            within = "/".join(parts)
            before = f"{place}/" if place and parts[0] != place else ""
            own = f"{name}/" if name else before
            read = partial(_whole_member, path, read)
            yield File(own + within, before + within, read, num_bytes=num_bytes)
    except DAMAGED as error:
        raise _damaged(path, error) from error


def _whole_member(path: Path, read: Callable[[], bytes]) -> bytes:
    """The bytes of a member of an archive. Raises `DataError` where it is cut off, or broken."""
    try:
        return read()
    except DAMAGED as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    first = str(error).partition("\n")[0].rstrip(":")  # of what every way to read it says
    return DataError(
        f"the archive is damaged or cut short: {first}",
        where=str(path),
        hint="copy or download it again",
    )


Member = tuple[str, int, Callable[[], bytes]]


def _tar_members(path: Path, links: list[str], seen: Listing) -> Iterator[Member]:
    with open_regular(path) as stream, tarfile.open(fileobj=stream, mode="r:*") as archive:
        for member in archive:
            if member.issym() or member.islnk():
                links.append(member.name)
            elif member.isfile():
                yield member.name, member.size, partial(_tar_bytes, archive, member)
        if not _is_whole(archive):
            reason = "the archive ends without its mark of the end: what came after is not read"
            fix = "copy or download it again"
            seen.problems.append(Problem(path.name, reason, fix, fatal=True))


def _is_whole(archive: tarfile.TarFile) -> bool:
    """Whether a block of zeros stands after the last member: `tarfile` takes a header that is cut
    off, or broken, for the end as well."""
    stream: Any = archive.fileobj
    stream.seek(archive.offset)
    return bool(stream.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE))


def _tar_bytes(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > MAX_FILE_BYTES:
        raise too_large(member.size)
    stream = archive.extractfile(member)
    return stream.read() if stream else b""


def _zip_members(path: Path, links: list[str]) -> Iterator[Member]:
    with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            if member.flag_bits & 1 and not member.is_dir():
                raise DataError(
                    "the archive is locked with a password",
                    found=f"{member.filename} is encrypted",
                    where=str(path),
                    hint=f"unpack it where you know the password: unzip {path}",
                )
            if stat.S_ISLNK(member.external_attr >> 16):
                links.append(member.filename)
            elif not member.is_dir():
                name = member.filename
                if "/" not in name:  # some programs on Windows write backslashes
                    name = name.replace("\\", "/")
                yield name, member.file_size, partial(_zip_bytes, archive, member)


def _zip_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, as many as the archive's list says, at most."""
    if member.file_size > MAX_FILE_BYTES:
        raise too_large(member.file_size)
    with archive.open(member) as stream:
        return stream.read(member.file_size + 1)
