"""The process of one model, as the server sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from typing import Any

import psutil

from morphogen.serve.catalogue import Entry
from morphogen.serve.engine.running import Asked, Running
from morphogen.serve.errors import APIError, of_failure
from morphogen.serve.settings import Settings

LONGEST_LINE = 1 << 28
CACHE_SHARE = 4  # one part in so many of the memory is for what texts keep while they are written
# What is asked of a model before anybody does: a beginning of some tokens, and some after it.
WARMING = {"do": "complete", "prompts": ["Once upon a time"], "num": 1, "seed": 0, "most": 2}


class ModelProcess(Running):
    """A model of this machine, in a process of its own."""

    def __init__(self, entry: Entry, settings: Settings) -> None:
        super().__init__(entry, settings)
        self.child: asyncio.subprocess.Process | None = None
        self.reading: asyncio.Task[None] | None = None
        self.warming: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        """See `Running`."""
        return self.child is not None and self.child.returncode is None

    @property
    def is_warm(self) -> bool:
        """See `Running`: what writes texts compiles its steps when it first does."""
        done = self.warming is not None and self.warming.done()
        return done or "context_length" not in self.about

    @property
    def memory(self) -> int:
        """See `Running`."""
        try:
            return int(psutil.Process(self.child.pid).memory_info().rss) if self.child else 0
        except psutil.Error:
            return 0

    async def start(self) -> None:
        """See `Running`."""
        told = {
            "kind": self.entry.kind,
            "path": str(self.entry.path),
            "threads": self.settings.threads_each,
            "rows": self.settings.rows,
            "batch": self.settings.batch,
            "cache_bytes": self.settings.memory // CACHE_SHARE,
            "watermark": self.settings.watermark,
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

    def begin_to_warm(self) -> None:
        """See `Running`."""
        if self.warming is None:
            self.warming = asyncio.create_task(self._warm())

    async def warmed(self) -> None:
        """See `Running`."""
        self.begin_to_warm()
        assert self.warming is not None
        await asyncio.shield(self.warming)  # who goes before does not end it

    async def _warm(self) -> None:
        with contextlib.suppress(APIError):  # who asks it something will be told
            async for _ in await self.ask(WARMING):
                pass

    async def stop(self) -> None:
        """See `Running`."""
        if self.child is not None and self.child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.child.kill()
            await self.child.wait()
        if self.reading is not None:
            await self.reading

    async def _hand_in(self, asked: Asked, work: Mapping[str, Any]) -> None:
        self._write({"id": asked.number, **work})
        assert self.child is not None
        assert self.child.stdin is not None
        with contextlib.suppress(ConnectionError):
            await self.child.stdin.drain()

    def _give_up(self, asked: Asked) -> None:
        self._write({"id": asked.number, "do": "cancel"})

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
