"""Originals: which items were read on this machine, and when for the first time.

A model that learned its data well draws items that look like some of it. Those of the data that
such a draw resembles would be taken for generated ones, wherever their files are newer than the
draw (copied, unpacked, fetched again). But what was read before the draw was made cannot come from
it. So every load notes the content hashes of the items that it keeps.

One file per modality in the cache folder: records of a hash (16 bytes) and a time (8 bytes).
"""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from morphogen.core.storage import cache_file, lock
from morphogen.data.names import firsts

RECORD = np.dtype([("digest", ">u8", 2), ("time", "<f8")])


@dataclass(frozen=True)
class Originals:
    """When the items of one modality were first read here."""

    path: Path

    @classmethod
    def of(cls, modality: str) -> Originals:
        """Those of a modality, in the cache folder."""
        return cls(cache_file(f"originals-{modality}.hashes"))

    @functools.cached_property
    def times(self) -> dict[bytes, float]:
        """Content hash -> seconds since 1970, as it was when this was first asked."""
        records = self._records
        digests = (each.tobytes() for each in records["digest"])
        return dict(zip(digests, records["time"].tolist(), strict=True))

    @functools.cached_property
    def _records(self) -> np.ndarray:
        try:
            data = self.path.read_bytes()
        except OSError:
            data = b""
        return np.frombuffer(data[: len(data) // RECORD.itemsize * RECORD.itemsize], RECORD)

    def note(self, digests: np.ndarray) -> int:
        """Note those of (N, 2), see `Digests.words`, that were not read before, as of now; return
        how many. A cache that cannot be written to is passed over: what it would have told is then
        found out by other means."""
        known = self._records["digest"].astype(np.uint64)
        first = firsts(np.concatenate([known, digests]))[len(known) :]
        fresh = first == np.arange(len(known), len(known) + len(digests))
        new = np.empty(int(fresh.sum()), RECORD)
        if not len(new):
            return 0
        new["digest"], new["time"] = digests[fresh], time.time()
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
