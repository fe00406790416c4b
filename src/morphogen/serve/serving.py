"""What an application has at hand: models, records, limits, numbers about itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import Depends, Request

from morphogen.core.errors import RecordsError
from morphogen.serve.catalogue import Catalogue, Entry
from morphogen.serve.engine.pool import Pool
from morphogen.serve.errors import APIError
from morphogen.serve.metrics import Metrics
from morphogen.serve.rates import Rates
from morphogen.serve.settings import Settings

T = TypeVar("T")
log = structlog.get_logger("morphogen.serve")


class Serving:
    """One server at work."""

    def __init__(self, settings: Settings, records: Any = None) -> None:
        self.settings, self.records = settings, records
        self.catalogue = Catalogue(settings.models)
        self.pool = Pool(settings)
        self.metrics = Metrics()
        self.rates = Rates(settings.rate)
        self.local: Any = None  # whoever works at this machine
        self.is_ready = False
        self.tasks: set[asyncio.Task[Any]] = set()
        # One thread writes to the records: many would wait for each other's transactions.
        self.writer = ThreadPoolExecutor(1, "records")

    def entry(self, name: str) -> Entry:
        """The model of a name. Raises `APIError`."""
        return self.catalogue.find(name)

    async def record(self, write: Callable[..., T], *given: Any, **named: Any) -> T:
        """Write to the records, in turn. Raises `APIError` where they cannot be written."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self.writer, partial(write, *given, **named))
        except RecordsError as error:
            log.error("records", why=error.message)
            raise APIError(503, f"the records cannot be written: {error.message}",
                           code="records_unavailable", retry_after=5) from error  # fmt: skip

    def later(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do what whoever asks need not, or cannot, wait for; it is done before the server ends."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def begin(self) -> None:
        """Be ready: what an earlier server was making when it was killed is recorded as cut."""
        if self.records is not None:
            from morphogen.records.access import Access

            user = await self.record(self.records.users.local)
            self.local = Access(user, user.actions)
            await self.record(self.records.generations.cut_abandoned)
        self.is_ready = True

    async def close(self) -> None:
        """Let what runs end, then the models."""
        self.is_ready = False
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.pool.close()
        self.writer.shutdown()


def serving_of(request: Request) -> Serving:
    """The one that a request came to."""
    found: Serving = request.app.state.serving
    return found


Here = Annotated[Serving, Depends(serving_of)]
