"""Looks at data, each in a process of its own (`looking.py`), and what came of the last ones.

A look that takes long goes on while nobody waits for it: who asks again is told how far it is, or
what was found. What was found stays until the data changes, or until others took its place.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from morphogen.serve.errors import APIError
from morphogen.serve.settings import Settings

LONGEST_LINE = 1 << 28  # bytes that a process says at once
KEPT = 12  # looks whose answers are kept
AT_ONCE = 2  # that go on in the background
SOON, LONG = 600.0, 4 * 3600.0  # seconds that a look may take: waited for, and in the background
log = structlog.get_logger("morphogen.serve")


class Look:
    """One look: how far it is, then what was found, or why nothing was."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.doing = "Waiting for another look to end."
        self.share: float | None = None  # of it that is done, where it is known
        self.found: dict[str, Any] | None = None
        self.failed: APIError | None = None
        self.at = time.time()
        self.work: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether there is no more to wait for."""
        return self.found is not None or self.failed is not None

    async def run(self, patience: float, environment: Mapping[str, str]) -> None:
        """Have it done; what comes is noted."""
        self.doing, self.at = "Starting.", time.time()
        try:
            await asyncio.wait_for(self._ask(environment), patience)
        except TimeoutError:
            self.failed = APIError(503, "it took too long", code="too_long")
        except (OSError, ValueError) as error:  # it cannot be started, or says what is no answer
            log.error("look", what=self.told["look"], why=repr(error))
        if not self.is_over:
            self.failed = APIError(500, "looking at it failed; the log says where")

    async def _ask(self, environment: Mapping[str, str]) -> None:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "morphogen.serve.looking", json.dumps(self.told),
            stdout=asyncio.subprocess.PIPE, limit=LONGEST_LINE, start_new_session=True,
            env=environment,
        )  # fmt: skip
        try:
            assert child.stdout is not None
            while line := await child.stdout.readline():
                self._hear(json.loads(line))
            await child.wait()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()

    def _hear(self, said: Mapping[str, Any]) -> None:
        if "doing" in said:
            self.doing, self.share = said["doing"], said["share"]
        elif "failed" in said:
            self.failed = APIError(400, said["failed"])
        else:
            self.found = said["found"]


class Looks:
    """Those of a server."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.kept: OrderedDict[str, Look] = OrderedDict()
        self.turns = asyncio.Semaphore(AT_ONCE)

    async def now(self, **told: Any) -> dict[str, Any]:
        """What is found, waited for. Raises `APIError`."""
        look = Look(told)
        await look.run(SOON, self.settings.environment)
        return _found(look)

    def at(self, source: Path, **told: Any) -> Look:
        """A look at data as it is now, begun where there is none. Raises `APIError` once where it
        failed: the next who asks has it begun anew."""
        key = _key(source, told)
        look = self.kept.get(key)
        if look is None:
            look = self.kept[key] = Look({**told, "source": str(source)})
            look.work = asyncio.create_task(self._in_turn(look))
        self.kept.move_to_end(key)
        if look.failed is not None:
            del self.kept[key]
            raise look.failed
        over = [name for name, each in self.kept.items() if each.is_over and name != key]
        for name in over[: max(len(self.kept) - KEPT, 0)]:
            del self.kept[name]
        return look

    def begun(self, source: Path, **told: Any) -> Look | None:
        """A look that was begun already, as `at` has it; None where there is none."""
        key = _key(source, told)
        return self.at(source, **told) if key in self.kept else None

    def forget(self, source: Path) -> None:
        """What was found of this data is to be looked for anew."""
        for key, look in list(self.kept.items()):
            if look.told["source"] == str(source) and look.is_over:
                del self.kept[key]

    async def close(self) -> None:
        """End those that go on."""
        works = [look.work for look in self.kept.values() if look.work is not None]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    async def _in_turn(self, look: Look) -> None:
        async with self.turns:
            await look.run(LONG, self.settings.environment)


def _found(look: Look) -> dict[str, Any]:
    if look.failed is not None:
        raise look.failed
    assert look.found is not None
    return look.found


def _key(source: Path, told: Mapping[str, Any]) -> str:
    """Of a look at data as its folder or file tells that it is now."""
    try:
        changed = source.stat().st_mtime_ns
    except OSError:
        changed = 0
    return json.dumps([told, str(source), changed], sort_keys=True)
