"""What an application has at hand: models, records, limits, numbers about itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import Depends, Request

from morphogen.core.errors import QuotaError, RecordsError
from morphogen.serve.agents import Agents
from morphogen.serve.begun import Begun
from morphogen.serve.catalogue import Catalogue, Entry
from morphogen.serve.comparisons import Comparisons
from morphogen.serve.engine.pool import Pool
from morphogen.serve.errors import APIError
from morphogen.serve.indexes import Indexes
from morphogen.serve.looks import Looks
from morphogen.serve.metrics import Metrics
from morphogen.serve.quotas import used_up
from morphogen.serve.rates import Rates
from morphogen.serve.recorder import Recorder
from morphogen.serve.settings import Settings
from morphogen.serve.traces import Traces
from morphogen.serve.trainings import Trainings

T = TypeVar("T")
log = structlog.get_logger("morphogen.serve")


class Serving:
    """One server at work."""

    def __init__(self, settings: Settings, records: Any = None) -> None:
        self.settings, self.records = settings, records
        self.catalogue, self.indexes = Catalogue(settings.models), Indexes(settings.indexes)
        self.agents = Agents(settings.agents)
        self.pool = Pool(settings)
        self.metrics = Metrics()
        self.rates = Rates(settings.rate)
        self.traces = Traces.sent_to(settings.traces)
        self.looks, begun = Looks(settings), Begun(settings)
        self.trainings, self.comparisons = Trainings(begun), Comparisons(begun)
        self.local: Any = None  # whoever works at this machine
        self.is_ready = False
        self.recorder = None if records is None else Recorder(records.database)

    def entry(self, name: str) -> Entry:
        """The model of a name. Raises `APIError`."""
        return self.catalogue.find(name)

    def write(self, write: Callable[..., T], *given: Any, **named: Any) -> asyncio.Future[T]:
        """Have something written to the records, in turn; see `written`."""
        assert self.recorder is not None
        done = asyncio.wrap_future(self.recorder.write(partial(write, *given, **named)))
        done.add_done_callback(_logged)
        return done

    async def written(self, write: asyncio.Future[T]) -> T:
        """Wait until it is kept. Raises `APIError` where the records cannot be written."""
        try:
            return await asyncio.shield(write)
        except RecordsError as error:
            raise unwritten(error) from error

    async def record(self, write: Callable[..., T], *given: Any, **named: Any) -> T:
        """Both at once. Raises `APIError`."""
        return await self.written(self.write(write, *given, **named))

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
        await asyncio.gather(self.pool.close(), self.looks.close())
        if self.recorder is not None:
            self.recorder.close()
        await asyncio.to_thread(self.traces.close)


def unwritten(error: BaseException) -> APIError:
    """The answer where something could not be recorded, or is more than a key may ask for."""
    if isinstance(error, QuotaError):
        return used_up(error)
    why = error.message if isinstance(error, RecordsError) else type(error).__name__
    return APIError(503, f"the records cannot be used: {why}", code="records_unavailable",
                    retry_after=5)  # fmt: skip


def _logged(write: asyncio.Future[Any]) -> None:
    """Tell the log of what could not be written, whether or not somebody waits for it."""
    error = None if write.cancelled() else write.exception()
    if error is not None and not isinstance(error, QuotaError):
        log.error("records", why=str(error))


def serving_of(request: Request) -> Serving:
    """The one that a request came to."""
    found: Serving = request.app.state.serving
    return found


async def _here(request: Request) -> Serving:
    return serving_of(request)  # what is no coroutine would be called in a thread of its own


Here = Annotated[Serving, Depends(_here)]
