"""What was generated on this machine: the fingerprints of every item that a result saved.

A ledger is a row of bytes for each modality, which only grows:

    magic, length, checksum (4 bytes each), then about, keys and detail with their sizes

It lies in the records of the installation, encrypted; where nobody keeps any, in a file of the
cache folder, which the records take in once there are some (see `records.ledger`). An entry is
known by its place, the bytes before it, and keeps it there.
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from morphogen.core import discover
from morphogen.core.codec import CanFingerprint, CanMark, Codec, Fingerprint, Item
from morphogen.core.errors import MorphogenError
from morphogen.core.hinges import hinges
from morphogen.core.storage import cache_file, lock

HEAD = struct.Struct("<4sII")  # magic, length, checksum
SIZES = struct.Struct("<dHHHI")  # time, bytes of about, number of keys, bytes of a key, of detail
MAGIC = b"MGL1"


@dataclass(frozen=True)
class Entry:
    """One generated item, and what generated it."""

    fingerprint: Fingerprint
    about: str
    time: float = 0.0  # seconds since 1970: files last changed before do not hold the item
    place: int = field(default=0, compare=False)  # bytes of the ledger before it


class Ledger(ABC):
    """The fingerprints of generated items of one modality."""

    @staticmethod
    def of(modality: str) -> Ledger:
        """That of a modality: in the records, or in a file of the cache folder."""
        return hinges.ledger_of(modality) or LedgerFile.of(modality)

    @property
    @abstractmethod
    def size(self) -> int:
        """Its bytes: what is recorded later has its place behind them."""

    @abstractmethod
    def append(self, data: bytes) -> None:
        """Add packed entries."""

    @abstractmethod
    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """All of it, in order: pieces of whole entries, each with its place."""

    def record(self, entries: Iterable[Entry]) -> int:
        """Append entries; return how many. What is there already is recorded again."""
        packed = [_packed(entry) for entry in entries]
        if packed:
            self.append(b"".join(packed))
        return len(packed)

    def read(self) -> list[Entry]:
        """Every whole record, each fingerprint once."""
        found: dict[Fingerprint, Entry] = {}
        for place, data in self.chunks():
            for entry in unpacked(data, place):
                found.setdefault(entry.fingerprint, entry)
        return list(found.values())


@dataclass(frozen=True)
class LedgerFile(Ledger):
    """A ledger in a file. Entries are appended under a lock, so that processes may write at the
    same time; one that was cut short by a kill is skipped."""

    path: Path

    @classmethod
    def of(cls, modality: str) -> LedgerFile:
        """That of a modality in the cache folder."""
        return cls(cache_file(f"generated-{modality}.ledger"))

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def append(self, data: bytes) -> None:
        """Write to the end of the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            lock(handle)
            left = memoryview(data)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        finally:
            os.close(handle)

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """The file as it is."""
        if self.size:
            yield 0, self.path.read_bytes()

    @contextmanager
    def emptied(self) -> Iterator[bytes]:
        """All that is in the file, which is empty afterwards, unless an error is raised meanwhile;
        others wait before they write."""
        with self.path.open("r+b") as file:
            lock(file.fileno())
            yield file.read()
            file.truncate(0)


def unpacked(data: bytes, place: int = 0) -> Iterator[Entry]:
    """The whole entries in bytes of a ledger, of which `place` come before."""
    start = 0
    while (start := data.find(MAGIC, start)) >= 0 and start + HEAD.size <= len(data):
        _, length, checksum = HEAD.unpack_from(data, start)
        body = data[start + HEAD.size : start + HEAD.size + length]
        if len(body) < length or zlib.crc32(body) != checksum:
            start += 1  # cut short: look for the next one
            continue
        if (entry := _unpacked(body, place + start)) is not None:
            yield entry
        start += HEAD.size + length


def record(
    codec: Codec,
    new: Mapping[int, Fingerprint | None],
    made_by: str,
    path: Path,
    *,
    time: float,
    first: int = 0,
) -> None:
    """Mark what was written at `path` from `time` on, and record the items that a model made, see
    `new_items`, in their ledger; they are numbered there from `first` on."""
    try:
        if isinstance(codec, CanMark):
            codec.mark(path, {"synthetic": "yes", "generator": made_by}, [first + n for n in new])
        if isinstance(codec, CanFingerprint):
            ledger = Ledger.of(discover.name_of(type(codec)))
            ledger.record(Entry(found, made_by, time) for found in new.values() if found)
    except (OSError, MorphogenError) as error:
        message = f"{path} is written, but not recorded as generated: {error}"
        warnings.warn(message, stacklevel=4)


def new_items(
    codec: Codec, items: Sequence[Any], inputs: Sequence[Any]
) -> dict[int, Fingerprint | None]:
    """Which of the items a model made, with their fingerprints where they have one.

    Items that show the same as one of the `inputs` of a task are the user's own: they are neither
    marked nor recorded, or the originals would be taken for generated ones later on.
    """
    printer = codec if isinstance(codec, CanFingerprint) else None
    found = [None if printer is None else printer.fingerprint(Item(value)) for value in items]
    own = [each for value in inputs if printer and (each := printer.fingerprint(Item(value)))]
    same = {_bytes_of(value) for value in inputs}
    return {
        number: print_
        for number, (value, print_) in enumerate(zip(items, found, strict=True))
        if not (same and _bytes_of(value) in same)
        and not (printer and print_ and _is_one_of(print_, own, printer))
    }


def _bytes_of(value: Any) -> bytes:
    found = value.tobytes() if hasattr(value, "tobytes") else repr(value).encode(errors="replace")
    return bytes(found)


def _is_one_of(one: Fingerprint, others: Sequence[Fingerprint], codec: CanFingerprint) -> bool:
    key = int.from_bytes(one.keys[0])
    near = [
        each for each in others
        if each.detail == one.detail
        or (int.from_bytes(each.keys[0]) ^ key).bit_count() <= codec.key_radius
    ]  # fmt: skip
    if not near or any(each.detail == one.detail for each in near):
        return bool(near)
    first = torch.frombuffer(bytearray(one.detail), dtype=torch.uint8).expand(len(near), -1)
    second = torch.stack(
        [torch.frombuffer(bytearray(each.detail), dtype=torch.uint8) for each in near]
    )
    likeness = codec.likeness(first, second, torch.zeros(len(near), dtype=torch.long))
    return bool((likeness >= codec.same_from).any())


def _packed(entry: Entry) -> bytes:
    keys, detail = entry.fingerprint.keys, entry.fingerprint.detail
    about = entry.about.encode()[:1000]
    body = SIZES.pack(entry.time, len(about), len(keys), len(keys[0]), len(detail))
    body += about + b"".join(keys) + detail
    return HEAD.pack(MAGIC, len(body), zlib.crc32(body)) + body


def _unpacked(body: bytes, place: int) -> Entry | None:
    """The entry, or None for a record of another version."""
    if len(body) < SIZES.size:
        return None
    seconds, num_about, num_keys, width, num_detail = SIZES.unpack_from(body)
    start = SIZES.size + num_about
    if len(body) != start + num_keys * width + num_detail:
        return None
    keys = tuple(body[start + i * width : start + (i + 1) * width] for i in range(num_keys))
    detail = body[start + num_keys * width :][:num_detail]
    about = body[SIZES.size : start].decode(errors="replace")
    return Entry(Fingerprint(keys, detail), about, seconds, place)
