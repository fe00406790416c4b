"""Versions of a folder: content-addressed, atomic, and cheap where nothing changed.

    store/objects/ab/cdef...      one file per distinct content, named by its BLAKE2b-160 hash
    store/versions/ID.json.gz     a version: path, size, mtime and hash of every file

A version's ID is the hash of its paths and contents, so the same folder is the same version. A file
whose size, mtime and inode are those of the last version is not read again. New contents are copied
(as a clone sharing blocks where the file system can): a hard link would let an edit of the folder
change the version. A manifest is renamed into place after every object it names, so that a version
exists whole or not at all, whenever the process is killed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from morphogen.core.border import reading
from morphogen.core.errors import DataError, did_you_mean, missing_path
from morphogen.core.storage import write_atomic
from morphogen.core.visible import in_shell
from morphogen.data.differences import Difference, compare

THREADS = 4
BLOCK = 1 << 20
STORE = ".morphogen"  # folder of versions beside, or in a parent of, the data
RACY = 2_000_000_000  # ns: a file changed so shortly before it was seen may change unnoticed again
Entry = tuple[str, str, os.stat_result]  # path below the folder, path, what the system says
FICLONE = 0x40049409  # Linux ioctl: share the blocks of another file


@dataclass(frozen=True)
class FileState:
    """One file of a version."""

    size: int
    mtime: int  # nanoseconds
    hash: str
    inode: int = 0


@dataclass
class Version:
    """A folder as it was."""

    id: str
    source: str
    created: str
    files: dict[str, FileState]
    note: str = ""
    num_stored: int = 0  # contents that were new to the store
    bytes_stored: int = 0
    skipped: list[str] = field(default_factory=list)  # links and special files, left alone
    settled: int = 0  # nanoseconds: files last changed before it cannot have changed unseen

    def to_json(self) -> dict[str, Any]:
        """The facts, without the list of files."""
        facts = {k: v for k, v in vars(self).items() if k != "files"}
        total = sum(each.size for each in self.files.values())
        return {**facts, "num_files": len(self.files), "num_bytes": total}

    def text(self) -> str:
        """For a terminal."""
        facts = self.to_json()
        lines = [
            f"version {self.id} of {self.source}",
            f"  {facts['num_files']:,} files, {facts['num_bytes'] / 1e6:,.1f} MB; "
            f"{self.num_stored:,} new contents, {self.bytes_stored / 1e6:,.1f} MB",
        ]
        if self.skipped:
            listed = ", ".join(self.skipped[:3]) + (", ..." if len(self.skipped) > 3 else "")
            lines.append(f"  {len(self.skipped):,} links or special files are left out: {listed}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Store:
    """A folder of versions."""

    folder: Path

    @classmethod
    def at(cls, folder: Path | str) -> Store:
        """A store that exists. Raises `DataError` when there is none."""
        if not (Path(folder) / "versions").is_dir():
            raise DataError(
                "no versions are kept here",
                where=str(folder),
                hint=f"morphogen data snapshot FOLDER --store {in_shell(folder)}",
            )
        return cls(Path(folder))

    @classmethod
    def beside(cls, source: Path | str, store: Path | str | None = None) -> Store:
        """The store named, or `.morphogen` beside the folder."""
        return cls(Path(store) if store else Path(source).absolute().parent / STORE)

    # -- writing ---------------------------------------------------------------------------------

    def snapshot(self, source: Path | str, *, note: str = "") -> Version:
        """Keep the folder as it is now. Raises `DataError` when a file cannot be read or changes
        while it is read: then nothing was recorded."""
        source = Path(source)
        if not source.is_dir():
            raise (
                missing_path(source)
                if not source.exists()
                else DataError("only folders have versions", found="a file", where=str(source))
            )
        began = time.time_ns()
        try:
            for name in ("objects", "versions"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"versions cannot be kept here: {error.strerror}",
                where=str(self.folder),
                hint=f"morphogen data snapshot {in_shell(source)} --store FOLDER, "
                "where you may write",
            ) from error
        skipped: list[str] = []
        files, new = self._changed(source, skipped)
        stored = []
        for (name, _, stat), (digest, size) in _in_threads(self._store, new):
            files[name] = FileState(stat.st_size, stat.st_mtime_ns, digest, stat.st_ino)
            stored += [size] if size is not None else []
        files = dict(sorted(files.items()))
        version = Version(
            _version_id(files),
            str(source.resolve()),
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            files,
            note,
            len(stored),
            sum(stored),
            skipped,
            began - RACY,
        )
        self._write(version)
        return version

    def _changed(
        self, source: Path, skipped: list[str]
    ) -> tuple[dict[str, FileState], list[Entry]]:
        """The files that are as in the folder's last version, and those that must be read."""
        last = self._last(source)
        files: dict[str, FileState] = {}
        new = []
        for name, path, stat in _walk(source, self.folder.resolve(), skipped):
            old = last.files.get(name) if last else None
            now = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
            # A file changed moments before it was seen could change again with the same time.
            if (
                old
                and last
                and now == (old.size, old.mtime, old.inode)
                and old.mtime < last.settled
            ):
                files[name] = old
            else:
                new.append((name, path, stat))
        return files, new

    def _store(self, entry: Entry) -> tuple[str, int | None]:
        """The hash of a file, and its size if its content was new."""
        name, path, stat = entry
        try:
            if stat.st_size <= BLOCK:
                with open(path, "rb", buffering=0) as file:
                    data = file.read(BLOCK + 1)
                digest, length = hashlib.blake2b(data, digest_size=20).hexdigest(), len(data)
            else:
                data, (digest, length) = b"", _hash(path)
            if length != stat.st_size or os.stat(path).st_mtime_ns != stat.st_mtime_ns:
                raise DataError("a file changed while it was read", where=path, hint="try again")
            target = self._object(digest)
            if target.exists():
                return digest, None
            _place(target, data if stat.st_size <= BLOCK else Path(path))
            if stat.st_size > BLOCK and _hash(str(target))[0] != digest:
                target.unlink()
                raise DataError("a file changed while it was copied", where=path, hint="try again")
        except OSError as error:
            raise DataError(
                f"cannot keep {name}: {error.strerror}", where=path, hint="check its permissions"
            ) from error
        return digest, stat.st_size

    def _object(self, digest: str) -> Path:
        return self.folder / "objects" / digest[:2] / digest[2:]

    def _write(self, version: Version) -> None:
        facts = {k: v for k, v in vars(version).items() if k != "files"}
        rows = [[n, f.size, f.mtime, f.hash, f.inode] for n, f in version.files.items()]
        data = gzip.compress(json.dumps({**facts, "files": rows}).encode(), 1)
        name = f"{time.time_ns():020d}-{version.id}.json.gz"
        os.sync()  # the contents are on the disk before the version that names them
        write_atomic(self.folder / "versions" / name, lambda path: path.write_bytes(data))

    # -- reading ---------------------------------------------------------------------------------

    def versions(self) -> list[str]:
        """The IDs, oldest first; a folder that came back to an earlier state has its ID again."""
        return [path.name.split("-")[1].partition(".")[0] for path in self._manifests()]

    def version(self, name: str) -> Version:
        """The version whose ID starts with `name`, or "last"."""
        manifests = self._manifests()
        found = [p for p in manifests if p.name.split("-")[1].startswith(name)]
        found = manifests[-1:] if name == "last" else found
        known = self.versions()
        if len({path.name.split("-")[1] for path in found}) != 1 or not name:
            raise DataError(
                f"there is no version {name!r}.{did_you_mean(name, known)}"
                if not found
                else f"several versions begin with {name!r}",
                expected=", ".join(known[-8:]) or "at least one version",
                where=str(self.folder),
            )
        return _read(found[-1])

    def restore(self, name: str, folder: Path | str) -> int:
        """Write a version's files into a new or empty folder; returns how many."""
        version, folder = self.version(name), Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise DataError(
                "the folder is not empty",
                where=str(folder),
                hint="name a new folder: nothing is overwritten",
            )
        for path, state in version.files.items():
            source, target = self._object(state.hash), folder / path
            if ".." in Path(path).parts or Path(path).is_absolute():
                raise DataError("a version names a file outside its folder", found=path)
            if not source.is_file() or _hash(str(source))[0] != state.hash:
                raise DataError(
                    "a content of the store is missing or damaged", found=path, where=str(source)
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            _place(target, source)
            os.utime(target, ns=(state.mtime, state.mtime))
        folder.mkdir(parents=True, exist_ok=True)
        return len(version.files)

    def state(self, source: Path | str) -> dict[str, FileState]:
        """A folder's files now, hashed where they are not those of its last version."""
        files, new = self._changed(Path(source), [])
        for (name, _, stat), (digest, _) in _in_threads(lambda each: _hash(each[1]), new):
            files[name] = FileState(stat.st_size, stat.st_mtime_ns, digest, stat.st_ino)
        return files

    def _last(self, source: Path) -> Version | None:
        """The last version taken of this folder."""
        for path in reversed(self._manifests()[-50:]):
            version = _read(path)
            if version.source == str(source.resolve()):
                return version
        return None

    def _manifests(self) -> list[Path]:
        return sorted((self.folder / "versions").glob("[0-9]*-*.json.gz"))


def diff(a: Path | str, b: Path | str, *, store: Path | str | None = None) -> Difference:
    """What was added, removed, changed and renamed from `a` to `b`: versions, "last", or folders.

    The store, where none is named, is `.morphogen` beside the folder, else in the working folder.
    """
    folder = next((each for each in (a, b) if Path(each).is_dir()), None)
    found = Store.beside(folder, store) if folder is not None else Store.at(store or STORE)
    states = [
        found.state(each) if Path(each).is_dir() else found.version(str(each)).files
        for each in (a, b)
    ]
    first, second = ({name: s.hash for name, s in files.items()} for files in states)
    return compare(first, second, str(a), str(b))


def _in_threads(
    function: Callable[[Entry], tuple[str, int | None]], entries: list[Entry]
) -> Iterator[tuple[Entry, tuple[str, int | None]]]:
    with ThreadPoolExecutor(THREADS) as pool:
        yield from zip(entries, pool.map(function, entries, chunksize=64), strict=True)


def _walk(source: Path, store: Path, skipped: list[str]) -> Iterator[Entry]:
    """Regular files as (path below the source, path, stat), the store left out."""
    pending = [(str(source), "")]
    while pending:
        folder, prefix = pending.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise DataError(
                f"the folder cannot be opened: {error.strerror}", where=folder, hint="chmod it"
            ) from error
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name != STORE and Path(entry.path).resolve() != store:
                    pending.append((entry.path, name + "/"))
            elif entry.is_file(follow_symlinks=False):
                yield name, entry.path, entry.stat(follow_symlinks=False)
            else:
                skipped.append(name)


def _hash(path: str) -> tuple[str, int]:
    """BLAKE2b-160 of a file, and its length."""
    digest, length = hashlib.blake2b(digest_size=20), 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
            length += len(block)
    return digest.hexdigest(), length


def _place(target: Path, content: bytes | Path) -> None:
    """Write a content under its name: whole or not at all, however many write it at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = f"{target}.{os.getpid()}-{threading.get_ident()}.part"
    try:
        with open(temporary, "wb", buffering=0) as file:
            if isinstance(content, bytes):
                file.write(content)
            elif not _cloned(content, file.fileno()):
                with content.open("rb") as source:
                    shutil.copyfileobj(source, file, BLOCK)
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _cloned(source: Path, target: int) -> bool:
    """Share the blocks of a file, where the file system can; False where it cannot."""
    try:
        import fcntl

        with source.open("rb") as file:
            fcntl.ioctl(target, FICLONE, file.fileno())
    except (ImportError, OSError):
        return False
    return True


def _version_id(files: Mapping[str, FileState]) -> str:
    lines = "".join(f"{state.hash} {name}\n" for name, state in files.items())
    return hashlib.blake2b(lines.encode(errors="surrogateescape"), digest_size=8).hexdigest()


def _read(path: Path) -> Version:
    with reading("the version", path, DataError):
        facts = json.loads(gzip.decompress(path.read_bytes()))
        rows = facts.pop("files")
        files = {n: FileState(size, mtime, digest, inode) for n, size, mtime, digest, inode in rows}
        return Version(files=files, **facts)
