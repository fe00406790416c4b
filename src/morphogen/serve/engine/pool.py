"""The models that are open, within a bound on memory: the least used leave first."""

from __future__ import annotations

import asyncio

import structlog

from morphogen.serve.catalogue import Entry
from morphogen.serve.engine.process import ModelProcess
from morphogen.serve.engine.running import Running
from morphogen.serve.errors import APIError
from morphogen.serve.settings import Settings

PROCESS = 400 << 20  # bytes that a process takes, whatever the model
GROWN = 3  # times its file that a model takes, until it is seen what it does

log = structlog.get_logger("morphogen.serve")


class Pool:
    """Models by name, each opened when it is first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.open: dict[str, Running] = {}
        self.opening: dict[str, asyncio.Lock] = {}
        self.making_room = asyncio.Lock()

    async def get(self, entry: Entry) -> Running:
        """The process of a model, started where it is not there or has crashed."""
        async with self.opening.setdefault(entry.name, asyncio.Lock()):
            process = self.open.get(entry.name)
            if process is not None and process.is_alive:
                if process.entry == entry or process.asked:
                    return process
                await self._close(process, "the model was changed")
            elif process is not None:
                log.warning("model crashed", model=entry.name)
            return await self._started(entry)

    async def close(self) -> None:
        """End all of them."""
        await asyncio.gather(*(process.stop() for process in self.open.values()))
        self.open.clear()

    async def _started(self, entry: Entry) -> Running:
        process = _running(entry, self.settings)
        async with self.making_room:
            await self._make_room(entry)
            self.open[entry.name] = process
            try:
                await process.start()
            except BaseException:
                del self.open[entry.name]
                raise
        log.info("model open", model=entry.name, mib=process.memory >> 20)
        return process

    async def _make_room(self, entry: Entry) -> None:
        """End the models that were not used for longest, until another one has room."""
        if entry.kind == "remote":
            return
        wanted = PROCESS + GROWN * entry.size
        if wanted > self.settings.memory:
            raise APIError(
                503, f"{entry.name} needs about {wanted >> 20:,} MiB, and all models together may "
                f"have {self.settings.memory >> 20:,}: serve with a larger --memory-gb",
                code="model_too_large",
            )  # fmt: skip
        others = {name: process for name, process in self.open.items() if name != entry.name}
        while sum(process.memory for process in others.values()) + wanted > self.settings.memory:
            idle = [process for process in others.values() if not process.asked]
            if not idle:
                raise APIError(
                    503, "the memory is taken by models that are at work: come again",
                    code="memory_taken", retry_after=5,
                )  # fmt: skip
            leaves = min(idle, key=lambda process: process.last_used)
            del others[leaves.entry.name]
            await self._close(leaves, "memory is short")

    async def _close(self, process: Running, why: str) -> None:
        self.open.pop(process.entry.name, None)
        await process.stop()
        log.info("model closed", model=process.entry.name, why=why)


def _running(entry: Entry, settings: Settings) -> Running:
    if entry.kind != "remote":
        return ModelProcess(entry, settings)
    from morphogen.serve.engine.remote import RemoteModel  # a client of HTTP, which few need

    return RemoteModel(entry, settings)
