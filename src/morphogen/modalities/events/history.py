"""What one user did, in order of time: events, and what each is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np


class Event(NamedTuple):
    """Something happened to an item: it was bought, seen, heard; `kind` says what, if anything."""

    item: str
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.item}" if self.kind else self.item


@dataclass(frozen=True, eq=False)
class History:
    """The events of one user, the oldest first.

    `stamps` (N,) are seconds since 1970 where `dated`, else numbers that only say what came first;
    None where nobody knows, as of what a model draws.
    """

    events: tuple[Event, ...]
    user: str = ""
    stamps: np.ndarray | None = None
    dated: bool = True

    def __len__(self) -> int:
        return len(self.events)

    @property
    def nbytes(self) -> int:
        """About how much memory it takes."""
        return 200 + 16 * len(self.events)

    def tobytes(self) -> bytes:
        """What tells it from others: what happened and when, to whomever. Two users with all of it
        in common are one who was written down twice."""
        told = "\0".join(f"{event.kind}\1{event.item}" for event in self.events).encode()
        return told + (b"" if self.stamps is None else self.stamps.tobytes())

    def last(self, num: int) -> History:
        """The newest events, at most so many."""
        if len(self) <= num:
            return self
        stamps = None if self.stamps is None else self.stamps[-num:]
        return replace(self, events=self.events[-num:], stamps=stamps)

    def __str__(self) -> str:
        whose = f"{self.user}: " if self.user else ""
        return whose + ", ".join(map(str, self.events))


def parsed(text: str) -> History:
    """Items as a person types them, with commas between."""
    return History(tuple(Event(part.strip()) for part in text.split(",") if part.strip()))
