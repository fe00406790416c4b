"""What was generated on this machine: the fingerprints of every item that a result saved.

One file per modality in the cache folder, appended to record by record:

    magic, length, checksum (4 bytes each), then about, keys and detail with their sizes

Records are appended under a lock, so that processes may write at the same time; a record that was
cut short by a kill is skipped.
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from morphogen.core import discover
from morphogen.core.codec import CanFingerprint, CanMark, Codec, Fingerprint, Item
from morphogen.core.errors import MorphogenError
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


@dataclass(frozen=True)
class Ledger:
    """The fingerprints of generated items of one modality."""

    path: Path

    @classmethod
    def of(cls, modality: str) -> Ledger:
        """The ledger of a modality in the cache folder."""
        return cls(cache_file(f"generated-{modality}.ledger"))

    @property
    def size(self) -> int:
        """Its bytes: what is recorded later has its place behind them."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def record(self, entries: Iterable[Entry]) -> int:
        """Append entries; return how many. What is there already is recorded again."""
        packed = [_packed(entry) for entry in entries]
        if packed:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                lock(handle)
                data = memoryview(b"".join(packed))
                while data:
                    data = data[os.write(handle, data) :]
                os.fsync(handle)
            finally:
                os.close(handle)
        return len(packed)

    def read(self) -> list[Entry]:
        """Every whole record, each fingerprint once."""
        if not self.size:
            return []
        data, start = self.path.read_bytes(), 0
        found: dict[Fingerprint, Entry] = {}
        while (start := data.find(MAGIC, start)) >= 0 and start + HEAD.size <= len(data):
            _, length, checksum = HEAD.unpack_from(data, start)
            body = data[start + HEAD.size : start + HEAD.size + length]
            if len(body) < length or zlib.crc32(body) != checksum:
                start += 1  # cut short: look for the next one
                continue
            if (entry := _unpacked(body, start)) is not None:
                found.setdefault(entry.fingerprint, entry)
            start += HEAD.size + length
        return list(found.values())


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
