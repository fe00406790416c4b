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
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from morphogen.core.storage import cache_file, lock

RECORD = np.dtype([("digest", "V16"), ("time", "<f8")])


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
        try:
            data = self.path.read_bytes()
        except OSError:
            return {}
        records = np.frombuffer(data[: len(data) // RECORD.itemsize * RECORD.itemsize], RECORD)
        return dict(
            zip(
                [each.tobytes() for each in records["digest"]],
                records["time"].tolist(),
                strict=True,
            )
        )

    def note(self, digests: Iterable[bytes]) -> int:
        """Note those that were not read before, as of now; return how many. A cache that cannot be
        written to is passed over: what it would have told is then found out by other means."""
        fresh = set(digests) - self.times.keys()
        new = np.array([(each, time.time()) for each in fresh], RECORD)
        if not len(new):
            return 0
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
