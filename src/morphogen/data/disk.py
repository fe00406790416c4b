"""Items on disk: a file for each part of an item, one row after the other, in the cache folder.

    stores/KEY/train/x.bin          rows as `store.compact` makes them; by parts, PART.bin
    stores/KEY/train/rows.json      how many of them are known to be whole

`KEY` hashes what was read and how it is encoded, so that the same data is encoded once. A store is
filled in order; what was interrupted goes on behind the last row that is whole. Memory does not
grow with the data.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from morphogen.core.encoded import Encoded
from morphogen.core.errors import DataError
from morphogen.core.spec import ProductSpec, Spec
from morphogen.core.storage import write_text
from morphogen.data.store import CHUNK, Store, item_bytes, storage_dtype

SAFE_EVERY = 1 << 26  # bytes written between two notes of what is whole
NUMPY: dict[torch.dtype, Any] = {
    torch.uint8: np.uint8,
    torch.uint16: np.uint16,
    torch.int32: np.int32,
}
NUMPY[torch.int64] = np.int64
WHOLE = "rows.json"


class Rows:
    """The rows of a file, read at random or from the first to the last."""

    def __init__(self, path: Path, dtype: torch.dtype, shape: tuple[int, ...], count: int) -> None:
        self.path, self.shape, self.count = path, shape, count
        self.dtype = np.dtype(NUMPY.get(dtype, np.float32))
        self.width = int(np.prod(shape, dtype=np.int64))
        self.file = path.open("rb", buffering=0)
        self.lock = threading.Lock()

    def at(self, index: Tensor) -> Tensor:
        """The rows at `index` (B,). Read, not mapped: the pages of a map count as memory in use."""
        found = np.empty((len(index), self.width), self.dtype)
        size = self.width * self.dtype.itemsize
        with self.lock:
            for row, number in zip(found, index.tolist(), strict=True):
                self.file.seek((number + self.count * (number < 0)) * size)
                if self.file.readinto(row.view(np.uint8).data) != size:
                    raise DataError("a file of encoded data is cut short", where=str(self.path))
        return torch.from_numpy(found.reshape(len(index), *self.shape))

    def chunks(self, size: int) -> Iterator[Tensor]:
        """All rows, `size` at a time."""
        with self.path.open("rb") as file:
            for start in range(0, self.count, size):
                many = min(size, self.count - start)
                found = np.fromfile(file, self.dtype, many * self.width)
                yield torch.from_numpy(found.reshape(many, *self.shape))


class DiskStore(Store):
    """Items in files of a folder: see `Filling`, which writes them."""

    def __init__(
        self,
        spec: Spec,
        rows: Mapping[str, Rows],
        cond: Mapping[str, Encoded] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self.spec, self.rows, self.cond, self.names = spec, dict(rows), dict(cond or {}), names

    def __len__(self) -> int:
        return next(iter(self.rows.values())).count

    def stored(self, index: Tensor) -> Encoded:
        return self._form({name: rows.at(index) for name, rows in self.rows.items()})

    def chunks(self, size: int = CHUNK) -> Iterator[Encoded]:
        parts = [rows.chunks(size) for rows in self.rows.values()]
        for values in zip(*parts, strict=True):
            yield self._form(dict(zip(self.rows, values, strict=True)))

    def with_cond(self, cond: Mapping[str, Encoded]) -> Store:
        return DiskStore(self.spec, self.rows, cond, self.names)

    def _form(self, values: dict[str, Tensor]) -> Encoded:
        return values if isinstance(self.spec, ProductSpec) else values["x"]


class Filling:
    """Files being filled with rows in order. `whole` of them are there already, at most `first`."""

    def __init__(
        self,
        folder: Path,
        parts: Mapping[str, tuple[torch.dtype, int]],
        first: int | None = None,
    ) -> None:
        self.folder, self.parts = folder, dict(parts)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.whole = min(self._noted(), *map(self._held, parts))
            self.whole = self.whole if first is None else min(self.whole, first)
            self.files = {name: self._opened(name) for name in parts}
        except OSError as error:
            raise _no_room(error, folder) from error
        self.rows, self.unsafe = self.whole, 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Append rows, each part flat: (rows times values of a row,)."""
        for name, value in values.items():
            data = value.contiguous().numpy()
            try:
                self.files[name].write(data.data if data.size else b"")
            except OSError as error:
                raise _no_room(error, self.folder) from error
            self.unsafe += data.nbytes
        name, value = next(iter(values.items()))
        self.rows += value.numel() // self.parts[name][1]
        if self.unsafe >= SAFE_EVERY:
            self.keep()

    def cut(self, rows: int) -> None:
        """Keep the first rows only."""
        for file in self.files.values():
            file.close()
        self.whole = self.rows = rows
        self.files = {name: self._opened(name) for name in self.parts}

    def keep(self) -> None:
        """Note that all rows so far are whole, after they are on the disk."""
        try:
            for file in self.files.values():
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _no_room(error, self.folder) from error
        write_text(self.folder / WHOLE, json.dumps({"rows": self.rows}))
        self.unsafe = 0

    def close(self) -> None:
        """The last row is there."""
        self.keep()
        for file in self.files.values():
            file.close()

    def _noted(self) -> int:
        try:
            rows: Any = json.loads((self.folder / WHOLE).read_text())["rows"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return rows if isinstance(rows, int) and rows > 0 else 0

    def _held(self, name: str) -> int:
        file, (dtype, width) = self.folder / f"{name}.bin", self.parts[name]
        return file.stat().st_size // (dtype.itemsize * width) if file.is_file() else 0

    def _opened(self, name: str) -> IO[bytes]:
        path, (dtype, width) = self.folder / f"{name}.bin", self.parts[name]
        path.touch()
        os.truncate(path, self.whole * dtype.itemsize * width)
        return path.open("ab")


def parts_of(spec: Spec) -> dict[str, tuple[torch.dtype, int]]:
    """The files of a store: their type, and how many values a row of each has."""
    named = spec.parts if isinstance(spec, ProductSpec) else {"x": spec}
    return {name: (storage_dtype(part), part.num_values) for name, part in named.items()}


def open_rows(folder: Path, spec: Spec, count: int) -> dict[str, Rows]:
    """The files of a store that was filled."""
    named = spec.parts if isinstance(spec, ProductSpec) else {"x": spec}
    return {
        name: Rows(folder / f"{name}.bin", storage_dtype(part), part.shape, count)
        for name, part in named.items()
    }


def check_room(folder: Path, spec: Spec, count: int) -> None:
    """Raise `DataError` when the disk cannot hold `count` items."""
    place = next(each for each in [folder, *folder.parents] if each.exists())
    held = sum(file.stat().st_size for file in folder.glob("*.bin"))
    needed, free = count * item_bytes(spec) - held, shutil.disk_usage(place).free
    if needed > free:
        raise DataError(
            "the disk cannot hold the encoded data",
            found=f"{free / 1e9:,.1f} GB free",
            expected=f"{needed / 1e9:,.1f} GB",
            where=str(folder),
            hint="free some space, name a folder elsewhere with MORPHOGEN_CACHE, or encode smaller "
            "items",
        )


def _no_room(error: OSError, folder: Path) -> DataError:
    return DataError(
        f"the encoded data cannot be written: {error.strerror}",
        where=str(folder),
        hint="free some space and run the same command again: it goes on where it stopped",
    )
