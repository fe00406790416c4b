"""Originals: which items were read on this machine, and when for the first time.

A model that learned its data well draws items that look like some of it. Those of the data that
such a draw resembles would be taken for generated ones, wherever their files are newer than the
draw (copied, unpacked, fetched again). But what was read before the draw was made cannot come from
it. So every load notes the content hashes of the items that it keeps.

A note says how long the ledger of what was generated was then. An item was compared with all in
it, so that later loads compare it with nothing but what the ledger got since, of a time before the
item was read: as a rule nothing, and then no fingerprint of it is taken.

One file per modality in the cache folder: records of a hash (16 bytes), a time and the bytes of the
ledger (8 each).
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from morphogen.core.ledger import Entry
from morphogen.core.storage import cache_file, lock
from morphogen.data.names import firsts

RECORD = np.dtype([("digest", ">u8", 2), ("time", "<f8"), ("ledger", "<u8")])


@dataclass(frozen=True)
class Made:
    """What was generated here before a source was last changed, and which contents were compared
    with all of it before."""

    entries: Sequence[Entry] = ()
    ledger: int = 0  # how many bytes of the ledger these were read from
    settled: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.uint64))  # in order

    def may_include(self, digest: bytes) -> bool:
        """Whether an item with this content hash may be one of them."""
        return self.may_include_any(np.frombuffer(digest, ">u8").astype(np.uint64)[None])

    def may_include_any(self, digests: np.ndarray) -> bool:
        """Whether one of many (N, 2) may be, see `Digests.words`."""
        if not self.entries:
            return False
        place = self.settled[:, 0].searchsorted(digests[:, 0])
        beyond = place.max(initial=0) >= len(self.settled)
        return bool(beyond or (self.settled[place] != digests).any())


@dataclass(frozen=True)
class Originals:
    """When the items of one modality were first read here."""

    path: Path

    @classmethod
    def of(cls, modality: str) -> Originals:
        """Those of a modality, in the cache folder."""
        return cls(cache_file(f"originals-{modality}.records"))

    @functools.cached_property
    def times(self) -> dict[bytes, float]:
        """Content hash -> seconds since 1970, as it was when this was first asked."""
        records = self._records
        digests = (each.tobytes() for each in records["digest"])
        return dict(zip(digests, records["time"].tolist(), strict=True))

    def compared_with(self, entries: Sequence[Entry]) -> np.ndarray:
        """The contents that none of these can be, (N, 2) in ascending order: all that were recorded
        after the note of an item were generated after the item was read."""
        records = self._records
        order = sorted(entries, key=lambda entry: entry.place)
        places = np.array([entry.place for entry in order], np.uint64)
        times = np.array([*(entry.time for entry in order), np.inf])
        earliest = np.minimum.accumulate(times[::-1])[::-1]  # of an entry and those behind it
        settled = earliest[places.searchsorted(records["ledger"])] > records["time"]
        digests = records["digest"][settled].astype(np.uint64)
        return digests[digests[:, 0].argsort()]

    @functools.cached_property
    def _records(self) -> np.ndarray:
        try:
            data = self.path.read_bytes()
        except OSError:
            data = b""
        return np.frombuffer(data[: len(data) // RECORD.itemsize * RECORD.itemsize], RECORD)

    def note(self, digests: np.ndarray, ledger: int = 0) -> int:
        """Note those of (N, 2), see `Digests.words`, that were not read before, as of now, when the
        ledger had so many bytes; return how many. A cache that cannot be written to is passed over:
        what it would have told is then found out by other means."""
        known = self._records["digest"].astype(np.uint64)
        first = firsts(np.concatenate([known, digests]))[len(known) :]
        fresh = first == np.arange(len(known), len(known) + len(digests))
        new = np.empty(int(fresh.sum()), RECORD)
        if not len(new):
            return 0
        new["digest"], new["time"], new["ledger"] = digests[fresh], time.time(), ledger
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                lock(file.fileno())
                whole = file.seek(0, os.SEEK_END) // RECORD.itemsize * RECORD.itemsize
                file.truncate(whole)  # a record that was cut short would put all others out of step
                file.write(new.tobytes())
        except OSError:
            return 0
        return len(new)
