"""A folder of an object store, by its URL: what fsspec knows, `s3://..`, `gs://..`, `file://..`.

Of a store no more is asked than that a name can be listed, read, written and deleted, and written
unless it is there (`create`): by that two writers are told apart. S3, Google's, Azure's and local
disks refuse the second of one name; where a store does not, what was written is read back, and
writers that meet within a moment may both believe that they were first.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morphogen.core.errors import BundleError, MorphogenError, RecipeError
from morphogen.core.extras import extra
from morphogen.core.storage import PARTIAL, cache_folder, sha256

DRIVERS = {  # of a protocol: its package, and what of morphogen[..] brings it
    "s3": ("s3fs", "objects"), "gs": ("gcsfs", "gcs"), "gcs": ("gcsfs", "gcs"),
    "az": ("adlfs", "azure"), "abfs": ("adlfs", "azure"),
}  # fmt: skip
DEAD = 3600.0  # seconds after which nobody writes a file any more
NEVER = ("http", "https", "data", "reference")  # what is read there is not written there


@dataclass(frozen=True)
class Kept:
    """An object that never changes, and what it must hold."""

    name: str
    sha256: str
    size: int


class Objects:
    """What lies below a URL, and copies of it by what they hold."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.protocol = url.partition("://")[0]
        self.system, self.root = _system(self.url, self.protocol)
        told = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        self.copies = cache_folder() / "indexes" / told

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none where there is none."""
        self.system.invalidate_cache()
        with self._asked(folder):
            try:
                found = self.system.ls(f"{self.root}/{folder}", detail=False)
            except FileNotFoundError:
                return []
        names = (str(each).rpartition("/")[2] for each in found)
        return sorted(each for each in names if each and not each.endswith(PARTIAL))

    def read(self, name: str) -> bytes:
        """What an object holds. Raises `FileNotFoundError`."""
        with self._asked(name):
            return bytes(self.system.cat_file(f"{self.root}/{name}"))

    def create(self, name: str, data: bytes) -> bool:
        """Write what nobody has written; whether that was so. `data` is like no other."""
        place, problem = f"{self.root}/{name}", None
        try:
            with self._asked(name, writes=True):
                self._make_folder(place)
                self._create(place, data)
        except MorphogenError as error:
            problem = error  # another was first; or the answer was lost, and it is there
        try:
            return self.read(name) == data
        except FileNotFoundError:
            raise problem or BundleError("what was written is not there", where=place) from problem

    def put(self, file: Path, name: str, known: Iterable[Kept] = ()) -> Kept:
        """Take in a file, unless one of what is `known` holds the same, and move it among the
        copies. What it holds is part of its name, and a few letters that no other writer draws, so
        that what one deletes is nobody else's."""
        digest = sha256(file)
        for kept in known:
            if kept.sha256 == digest:
                return kept
        name = f"{name}-{digest[:16]}{secrets.token_hex(4)}{file.suffix}"
        kept = Kept(name, digest, file.stat().st_size)
        place = f"{self.root}/{name}"
        with self._asked(name, writes=True):
            self._make_folder(place)
            self.system.put_file(str(file), place)
        file.replace(self._copy(kept))
        return kept

    def local(self, kept: Kept) -> Path:
        """A copy of an object. Raises `FileNotFoundError` with its address, and `BundleError` where
        it does not hold what it must."""
        file = self._copy(kept)
        if file.is_file() and file.stat().st_size == kept.size:
            return file
        partial = self.folder() / f".{kept.sha256}.{secrets.token_hex(4)}{PARTIAL}"
        try:
            with self._asked(kept.name):
                self.system.get_file(f"{self.root}/{kept.name}", str(partial))
            size, digest = partial.stat().st_size, sha256(partial)
            if (size, digest) != (kept.size, kept.sha256):
                raise damaged(
                    "a shard of this index is damaged", f"{self.url}/{kept.name}",
                    found=f"{size:,} bytes, SHA-256 {digest[:16]}",
                    expected=f"{kept.size:,} bytes, SHA-256 {kept.sha256[:16]}",
                )  # fmt: skip
            partial.replace(file)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.url}/{kept.name}") from error
        finally:
            partial.unlink(missing_ok=True)
        return file

    def delete(self, names: Iterable[str]) -> None:
        """Forget objects; those that are not there are."""
        for name in names:
            with self._asked(name), suppress(FileNotFoundError):
                self.system.rm_file(f"{self.root}/{name}")

    def forget_copies(self, but: Iterable[Kept]) -> None:
        """Leave no copy of what is not named."""
        named = {self._copy(kept) for kept in but}
        for file in self.copies.iterdir() if self.copies.is_dir() else ():
            if file.name.startswith("."):  # what is being written, or was by a process now dead
                with suppress(FileNotFoundError):
                    if time.time() - file.stat().st_mtime > DEAD:
                        shutil.rmtree(file) if file.is_dir() else file.unlink()
            elif file not in named:
                file.unlink(missing_ok=True)

    def folder(self) -> Path:
        """Where copies lie, for nobody else's eyes."""
        self.copies.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self.copies

    def _copy(self, kept: Kept) -> Path:
        return self.copies / kept.sha256

    def _make_folder(self, place: str) -> None:
        if self.protocol not in DRIVERS:  # there, a folder is no more than a part of a name
            self.system.makedirs(place.rpartition("/")[0], exist_ok=True)

    def _create(self, place: str, data: bytes) -> None:
        if self.protocol not in ("file", "local"):
            self.system.pipe_file(place, data, mode="create")
            return
        partial = f"{place}.{secrets.token_hex(4)}{PARTIAL}"  # a disk: it is whole when it is named
        self.system.pipe_file(partial, data)
        try:
            self.system.link(partial, place)
        finally:
            self.system.rm_file(partial)

    @contextmanager
    def _asked(self, name: str, *, writes: bool = False) -> Iterator[None]:
        """Whatever a driver raises, said by what was asked for; what is not there to be read is
        for others to tell of."""
        try:
            yield
        except Exception as error:  # each driver has kinds of its own
            if isinstance(error, MorphogenError | FileNotFoundError) and not writes:
                raise
            said = str(error).strip() or type(error).__name__
            raise BundleError(
                "the object store does not do what it is asked", where=f"{self.url}/{name}",
                found=f"{type(error).__name__}: {said}"[:300],
                hint="look whether the address is right, the store can be reached from here, and "
                "credentials for it are where its driver looks for them (for S3: AWS_ACCESS_KEY_ID,"
                " AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, or ~/.aws)",
            ) from error  # fmt: skip


def damaged(message: str, where: str, found: object, expected: object) -> BundleError:
    """What is said of a part of an index that is not what it was."""
    return BundleError(
        message, where=where, found=found, expected=expected,
        hint="put back what was there (an older version of the object, or a copy); or make the "
        "index anew: morphogen index DOCUMENTS --out ANOTHER",
    )  # fmt: skip


def _system(url: str, protocol: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there. Raises `RecipeError` where nothing knows it."""
    library = extra("fsspec", "objects", "an index lies in an object store")
    if protocol in NEVER or url.endswith(":") or protocol not in library.available_protocols():
        raise RecipeError(
            "an index cannot lie there", found=f"{protocol}://", where=url,
            expected="a folder, postgresql://.., s3://.., gs://.., az://.., file:///..",
        )  # fmt: skip
    if protocol in DRIVERS:
        extra(*DRIVERS[protocol], f"{protocol}:// is reached", raises=RecipeError, where=url)
    try:
        system, root = library.core.url_to_fs(url)
    except Exception as error:  # each driver has kinds of its own
        raise RecipeError(
            "this is no address of an object store that can be reached", where=url,
            found=f"{type(error).__name__}: {error}",
            expected="such as s3://bucket/handbook, file:///srv/handbook",
        ) from error  # fmt: skip
    return system, root.rstrip("/")
