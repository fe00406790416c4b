"""A model at work, wherever it is: its requests are numbered, bounded, and forgotten in time."""

from __future__ import annotations

import asyncio
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from morphogen.serve.catalogue import Entry
from morphogen.serve.errors import APIError, of_failure
from morphogen.serve.settings import Settings


class Running(ABC):
    """Requests go in by `ask`; whatever comes of each is handed to whoever asked."""

    def __init__(self, entry: Entry, settings: Settings) -> None:
        self.entry, self.settings = entry, settings
        self.about: dict[str, Any] = {}  # what it can do
        self.asked: dict[int, Asked] = {}
        self.last_used = time.monotonic()
        self.seconds = 1.0  # that a request took of late
        self._numbers = itertools.count(1)

    @property
    @abstractmethod
    def is_alive(self) -> bool:
        """Whether it can be asked."""

    @property
    @abstractmethod
    def memory(self) -> int:
        """Bytes that it takes here."""

    @abstractmethod
    async def start(self) -> None:
        """Open the model. Raises `APIError` where it cannot be."""

    @abstractmethod
    async def stop(self) -> None:
        """Let go of it, and of whatever it does."""

    @property
    def is_warm(self) -> bool:
        """Whether it answers at once."""
        return True

    def begin_to_warm(self) -> None:
        """Have it do once what its first answer would wait for. Nothing of that is recorded."""
        return

    async def warmed(self) -> None:
        """Begin, and wait until it is done."""
        return

    async def ask(self, work: Mapping[str, Any]) -> Asked:
        """Hand a request in. Raises `APIError` where too many wait."""
        rows = self.about.get("rows", 1)
        if len(self.asked) >= rows + self.settings.queue:
            raise APIError(
                429, f"{len(self.asked)} requests wait for {self.entry.name} already",
                code="queue_full", retry_after=self.seconds * (1 + self.settings.queue / rows),
            )  # fmt: skip
        asked = Asked(self, next(self._numbers))
        self.asked[asked.number] = asked
        self.last_used = time.monotonic()
        try:
            await self._hand_in(asked, work)
        except BaseException:
            asked.leave()
            raise
        return asked

    def forget(self, asked: Asked) -> None:
        """Nobody waits for what comes of a request any longer."""
        if self.asked.pop(asked.number, None) is not None:
            self.last_used = time.monotonic()
            self.seconds = 0.8 * self.seconds + 0.2 * (self.last_used - asked.began)

    def cancel(self, asked: Asked) -> None:
        """End a request that is not over."""
        if asked.number in self.asked:
            self.forget(asked)
            self._give_up(asked)

    @abstractmethod
    async def _hand_in(self, asked: Asked, work: Mapping[str, Any]) -> None:
        """Let the model begin with a request."""

    @abstractmethod
    def _give_up(self, asked: Asked) -> None:
        """Let it do no more for one."""


class Asked:
    """What comes of one request, event by event, up to the one that says "done"."""

    def __init__(self, model: Running, number: int) -> None:
        self.model, self.number, self.began = model, number, time.monotonic()
        self.came: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self.is_over = False
        self.why: APIError | None = None  # it failed here, and not in the model

    def __aiter__(self) -> Asked:
        return self

    async def __anext__(self) -> Mapping[str, Any]:
        """The next event. Raises `APIError` where the model refuses, and where it crashes."""
        if self.is_over:
            raise StopAsyncIteration
        event = await self.came.get()
        self.is_over = "done" in event or "error" in event
        if self.is_over:
            self.model.forget(self)
        if "error" in event:
            raise self.why or of_failure(event["error"])
        return event

    def fail(self, why: APIError) -> None:
        """End it with an error."""
        self.leave()
        self.why = why
        self.came.put_nowait({"error": {}})

    def leave(self) -> None:
        """Ask for no more: what is not over ends, and gives its place to others."""
        self.model.cancel(self)
