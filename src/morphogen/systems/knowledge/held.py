"""What a search looks at, in memory: vectors side by side, and postings.

Vectors of other rows take no part in any product, so that no bit of a score depends on them; words
are counted over these rows alone.

Legend: A rows that may be read, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from morphogen.systems.knowledge.passage import Passage
from morphogen.systems.knowledge.reduced import Reduced
from morphogen.systems.knowledge.storing import Where
from morphogen.systems.knowledge.vectors import Floats, Ints, Sliced, largest, nearest
from morphogen.systems.knowledge.words import Allowed, Counted

LARGE = 200_000  # vectors from which on fewer dimensions of them are compared first
MOST_KEPT = 4  # sets of groups whose rows stay in memory


class Held:
    """See `storing.Readable`."""

    def __init__(
        self,
        rows: Ints,  # (A,), sorted
        vectors: Sliced,  # (A, D)
        words: Counted,
        passages: Callable[[Sequence[int]], dict[int, Passage]],
        *,
        is_kept: bool = False,  # asked again and again: a way through many vectors is found once
    ) -> None:
        self.rows, self.vectors, self.words, self.passages = rows, vectors, words, passages
        self.allowed = Allowed(rows)
        self.is_large = is_kept and len(rows) >= LARGE
        self._reduced: Reduced | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def nearest(self, vector: Floats, num: int) -> dict[int, float]:
        """See `storing.Readable`."""
        if self.is_large and self._reduced is None:
            self._reduced = Reduced(self.vectors[:], num=num)
        if self._reduced is not None:
            place, near = self._reduced.nearest(vector[None], num)
        else:
            place, near = nearest(self.vectors, vector[None], num)
        return dict(zip(self.rows[place[0]].tolist(), near[0].tolist(), strict=True))

    def holding(self, question: str, num: int) -> dict[int, float]:
        """See `storing.Readable`."""
        scores = self.words.scores(question, self.allowed)  # (A,)
        some = np.flatnonzero(scores > 0)
        best = some[largest(scores[None, some], num)[0]]
        best = best[np.lexsort((best, -scores[best]))]
        return {int(self.rows[i]): float(scores[i]) for i in best}

    def exact(self, question: str) -> frozenset[int]:
        """See `storing.Readable`."""
        return self.words.exact(question, self.allowed)

    def held(self, question: str, row: int) -> list[str]:
        """See `storing.Readable`."""
        return self.words.held(question, row)


class Lately:
    """What sets of groups may read of a whole index, those that asked last: it stays in memory
    until the index changes. A search of a part of it is made for itself."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, tuple[str, ...]], Held] = {}

    def of(
        self,
        change: int,
        groups: Iterable[str],
        where: Where,
        made: Callable[[tuple[str, ...]], Held],
    ) -> Held:
        """What `groups` may read after a `change`, as it was `made` of their names."""
        named = tuple(sorted(set(groups)))
        if where:
            return made(named)
        key = change, named
        if key not in self._kept:
            self._kept = dict(list(self._kept.items())[-MOST_KEPT + 1 :])
            self._kept[key] = made(named)
        return self._kept[key]
