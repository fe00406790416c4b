"""How far the reading of data is: heard by who listens, where it takes long.

with listening(show):
    data = load("photos/")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from morphogen.core.amounts import duration

EVERY = 0.5  # seconds between two words
FIRST, SURE = 100, 10  # a hundredth of it, or ten seconds, tell how long the rest takes

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """`done` of `total` items (None: not known) after `seconds`; `doing` says what is done, `what`
    of what."""

    doing: str
    done: int
    total: int | None
    seconds: float
    what: str = "items"

    @property
    def left(self) -> float | None:
        """Seconds that are left, at this pace; None while nothing can be said of it: the first of
        many often waits for what the others find ready."""
        if self.total is None or not self.done:
            return None
        if self.done * FIRST < self.total and self.seconds < SURE:
            return None
        return self.seconds / self.done * (self.total - self.done)

    def text(self) -> str:
        """Such as: encoding 12,000 of 60,000 items, 40s left."""
        of = f" of {self.total:,}" if self.total is not None else ""
        left = f", {duration(self.left)} left" if self.left is not None else ""
        return f"{self.doing} {self.done:,}{of} {self.what}{left}"


OnProgress = Callable[[Progress], None]
_listener: ContextVar[OnProgress | None] = ContextVar("listener", default=None)


@contextmanager
def listening(show: OnProgress) -> Iterator[None]:
    """Tell `show` of all that is read meanwhile."""
    token = _listener.set(show)
    try:
        yield
    finally:
        _listener.reset(token)


def told(
    items: Iterable[T],
    doing: str,
    total: int | None = None,
    what: str = "items",
    count: Callable[[T], int] = lambda item: 1,
) -> Iterator[T]:
    """Pass items on, telling the listener now and then how many there were; `count` says for how
    many each stands."""
    from morphogen.sources import RecordBatches  # NumPy is no part of `--help`

    if isinstance(items, RecordBatches):  # they stay together
        return cast(Iterator[T], RecordBatches(_told(items.batches(), doing, total, what, len)))
    return _told(items, doing, total, what, count)


def _told(
    items: Iterable[T], doing: str, total: int | None, what: str, count: Callable[[Any], int]
) -> Iterator[T]:
    show = _listener.get()
    if show is None:
        yield from items
        return
    started = said = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += count(item)
        now = time.monotonic()
        if now - said >= EVERY:
            show(Progress(doing, done, total, now - started, what))
            said = now
    if said > started:  # it took long enough to be told of
        show(Progress(doing, done, done, time.monotonic() - started, what))
