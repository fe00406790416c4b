"""The shards of an index as one: rows of all of them, whose vectors and postings follow each other.

Scores are those of a folder, to the last bit: vectors that may be read are multiplied in stretches
that do not depend on where shards end, and words are counted over all rows that may be read.

Legend: A rows that may be read, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from morphogen.systems.knowledge.passage import Passage
from morphogen.systems.knowledge.shard import Shard
from morphogen.systems.knowledge.storing import Where
from morphogen.systems.knowledge.vectors import Floats, Ints
from morphogen.systems.knowledge.words import Counted, Numbers

MOST_TERMS = 64  # terms whose postings stay in memory


@dataclass(frozen=True)
class Snapshot:
    """An index as it was after one change: its shards, whose rows follow each other."""

    shards: Sequence[Shard]
    firsts: Ints = field(init=False)  # rows before those of each shard

    def __post_init__(self) -> None:
        sizes = [0, *(len(each) for each in self.shards)]
        object.__setattr__(self, "firsts", np.cumsum(sizes))

    def split(self, rows: Ints) -> list[tuple[Shard, int, Ints]]:
        """Rows (sorted) as those of each shard that has some: it, its first row, its own rows."""
        cuts = np.searchsorted(rows, self.firsts)
        return [
            (shard, first, rows[start:end] - first)
            for shard, first, (start, end) in zip(
                self.shards, self.firsts.tolist(), pairwise(cuts.tolist()), strict=False
            )
            if end > start
        ]

    def allowed(self, groups: Iterable[str], where: Where) -> Ints:
        """The rows that a member of `groups` may read: (A,)."""
        groups = tuple(groups)
        rows = (each.allowed(groups, where) for each in self.shards)
        found = [own + first for own, first in zip(rows, self.firsts.tolist(), strict=False)]
        return np.concatenate([np.zeros(0, np.int64), *found])

    def passages(self, rows: Sequence[int]) -> dict[int, Passage]:
        """See `storing.Readable`."""
        return {
            row + first: passage
            for shard, first, own in self.split(np.sort(np.array(rows, np.int64)))
            for row, passage in shard.passages(own.tolist()).items()
        }

    def versions(self, places: Iterable[str]) -> dict[str, int]:
        """How often documents were taken in, of those that are there."""
        found = ((place, each) for place in places for each in self.shards if place in each.places)
        return {place: shard.version(place) for place, shard in found}


class Rows:
    """The vectors of rows of several shards, as one array: see `vectors.Sliced`."""

    def __init__(self, snapshot: Snapshot, rows: Ints) -> None:
        self.snapshot, self.rows = snapshot, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice, /) -> Floats:
        found = []
        for shard, _, own in self.snapshot.split(self.rows[part]):
            first, end = int(own[0]), int(own[-1]) + 1
            # Rows side by side are not copied: they are multiplied where they are mapped.
            found.append(shard.vectors[slice(first, end) if end - first == len(own) else own])
        return found[0] if len(found) == 1 else np.concatenate(found)


class Postings(Counted):
    """The postings of several shards, as one list for each term."""

    def __init__(self, snapshot: Snapshot, language: str | None) -> None:
        super().__init__(language)
        self.snapshot = snapshot
        self._known: dict[str, tuple[Ints, Ints]] = {}

    def postings(self, term: str) -> tuple[Ints, Ints]:
        """See `words.Counted`."""
        if term not in self._known:
            rows, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
            for shard, first in zip(self.snapshot.shards, self.snapshot.firsts, strict=False):
                own, times = shard.postings(term)
                rows.append(own + first)
                counts.append(times)
            if len(self._known) == MOST_TERMS:
                self._known.clear()
            self._known[term] = np.concatenate(rows), np.concatenate(counts)
        return self._known[term]

    def lengths_of(self, allowed: Ints) -> Numbers:
        """See `words.Counted`."""
        parts = [shard.lengths[own] for shard, _, own in self.snapshot.split(allowed)]
        return np.concatenate([np.zeros(0), *parts])
