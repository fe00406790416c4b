"""The process of one model, as the server sees it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

import psutil

from morphogen.serve.catalogue import Entry
from morphogen.serve.errors import APIError, of_failure
from morphogen.serve.settings import Settings

LONGEST_LINE = 1 << 28
CACHE_SHARE = 4  # one part in so many of the memory is for what texts keep while they are written


class ModelProcess:
    """Requests go in by `ask`; whatever comes of each is handed to whoever asked."""

    def __init__(self, entry: Entry, settings: Settings) -> None:
        self.entry, self.settings = entry, settings
        self.about: dict[str, Any] = {}
        self.numbers = itertools.count(1)
        self.asked: dict[int, Asked] = {}
        self.last_used = time.monotonic()
        self.seconds = 1.0  # that a request took of late
        self.child: asyncio.subprocess.Process | None = None
        self.reading: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self.child is not None and self.child.returncode is None

    @property
    def memory(self) -> int:
        """Bytes that it takes."""
        try:
            return int(psutil.Process(self.child.pid).memory_info().rss) if self.child else 0
        except psutil.Error:
            return 0

    async def start(self) -> None:
        """Open the model. Raises `APIError` where it cannot be."""
        told = {
            "path": str(self.entry.path),
            "threads": self.settings.threads_each,
            "rows": self.settings.rows,
            "batch": self.settings.batch,
            "cache_bytes": self.settings.memory // CACHE_SHARE,
        }
        self.child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "morphogen.serve.worker", json.dumps(told),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LONGEST_LINE,
            start_new_session=True,  # Ctrl-C is for the server, which lets requests end
        )  # fmt: skip
        assert self.child.stdout is not None
        line = await self.child.stdout.readline()
        first = json.loads(line)[0] if line else {}
        if "ready" not in first:
            await self.stop()
            crashed = {"kind": "Crashed", "message": f"{self.entry.name} could not be opened"}
            raise of_failure(first.get("failed", crashed))
        self.about = first["ready"]
        self.reading = asyncio.create_task(self._read(self.child.stdout))

    async def stop(self) -> None:
        """End the process, and whatever it does."""
        if self.child is not None and self.child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.child.kill()
            await self.child.wait()
        if self.reading is not None:
            await self.reading

    async def ask(self, work: Mapping[str, Any]) -> Asked:
        """Hand a request in. Raises `APIError` where too many wait."""
        self._check_room()
        asked = Asked(self, next(self.numbers))
        self.asked[asked.number] = asked
        self.last_used = time.monotonic()
        try:
            await self._send({"id": asked.number, **work})
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
            self._write({"id": asked.number, "do": "cancel"})

    def _check_room(self) -> None:
        rows = self.about.get("rows", 1)
        if len(self.asked) >= rows + self.settings.queue:
            raise APIError(
                429, f"{len(self.asked)} requests wait for {self.entry.name} already",
                code="queue_full", retry_after=self.seconds * (1 + self.settings.queue / rows),
            )  # fmt: skip

    async def _send(self, message: Mapping[str, Any]) -> None:
        self._write(message)
        assert self.child is not None
        assert self.child.stdin is not None
        with contextlib.suppress(ConnectionError):
            await self.child.stdin.drain()

    def _write(self, message: Mapping[str, Any]) -> None:
        assert self.child is not None
        assert self.child.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):  # it crashed: who reads will tell
            self.child.stdin.write(json.dumps(message).encode() + b"\n")

    async def _read(self, stream: asyncio.StreamReader) -> None:
        """Hand out events until the process ends."""
        while line := await stream.readline():
            for event in json.loads(line):
                if (asked := self.asked.get(event["id"])) is not None:
                    asked.came.put_nowait(event)
        assert self.child is not None
        await self.child.wait()
        message = f"the process of {self.entry.name} ended while it was at work; ask again"
        crashed = {"kind": "Crashed", "message": message, "code": "model_crashed"}
        for asked in self.asked.values():
            asked.came.put_nowait({"error": crashed})


class Model(Protocol):
    """What a request is asked of."""

    def forget(self, asked: Asked) -> None:
        """Nobody waits for what comes of a request any longer."""
        ...

    def cancel(self, asked: Asked) -> None:
        """End a request that is not over."""
        ...


class Asked:
    """What comes of one request, event by event, up to the one that says "done"."""

    def __init__(self, process: Model, number: int) -> None:
        self.process, self.number, self.began = process, number, time.monotonic()
        self.came: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self.is_over = False

    def __aiter__(self) -> Asked:
        return self

    async def __anext__(self) -> Mapping[str, Any]:
        """The next event. Raises `APIError` where the model refuses, and where it crashes."""
        if self.is_over:
            raise StopAsyncIteration
        event = await self.came.get()
        self.is_over = "done" in event or "error" in event
        if self.is_over:
            self.process.forget(self)
        if "error" in event:
            raise of_failure(event["error"])
        return event

    def leave(self) -> None:
        """Ask for no more: what is not over ends, and gives its place to others."""
        self.process.cancel(self)
