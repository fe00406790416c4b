"""What comes of one request to a model, recorded from its start to its end.

A model begins while it is written down that it was asked. Nothing of an answer is handed over
before that is kept, and its end not before the answer is.

started -> finished, before the last of it is acknowledged
        -> cut, where who asked has gone, the model has crashed, or the server ends
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from fastapi import Request

from morphogen.serve.catalogue import Entry
from morphogen.serve.engine.running import Asked, Running
from morphogen.serve.errors import APIError
from morphogen.serve.quotas import headers_of
from morphogen.serve.recorded import parameters_of, recorded
from morphogen.serve.serving import Serving, unwritten

GONE = 499  # what others log where a client has gone; nobody reads it
T = TypeVar("T")


class Answer:
    """One generation: who made it, by which number it is found, and its events."""

    def __init__(self, serving: Serving, entry: Entry, process: Running) -> None:
        self.serving, self.entry, self.process = serving, entry, process
        self.id = os.urandom(10).hex()
        self.begun: asyncio.Future[Any] | None = None  # what is written of its start
        self.asked: Asked | None = None
        self.is_over = False
        self.is_handed_on = False  # to a stream, which ends it
        self.seed: int | None = None
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0}  # so far
        self.span: Any = None
        self.standing: asyncio.Future[Any] | None = None  # of the key's quotas
        self.quota: dict[str, str] = {}  # what the key has left, in headers

    @classmethod
    async def begin(
        cls,
        serving: Serving,
        entry: Entry,
        work: Mapping[str, Any],
        *,
        prompt: str | Sequence[Mapping[str, Any]] = (),
        parent: int | None = None,
        access: Any = None,
    ) -> Answer:
        """Ask a model, opened if need be; that it was asked is recorded meanwhile.

        Raises `APIError` where the model cannot be opened, or refuses, and where the key of who
        asks has used up its quota.
        """
        process = await serving.pool.get(entry)
        answer = cls(serving, entry, process)
        answer.seed = work.get("seed")
        if serving.records is not None:
            user, key = (access.user.id, access.key_id) if access is not None else (None, None)
            about = {"model": entry.name, "model_hash": process.about.get("hash"),
                     "verdict": entry.verdict, "task": work["do"]}  # fmt: skip
            answer.begun = serving.write(
                serving.records.generations.start, recorded(prompt), **about, parent=parent,
                parameters=parameters_of(work), seed=answer.seed, user=user, key=key, uid=answer.id,
            )  # fmt: skip
            if key is not None:
                answer.standing = serving.write(serving.records.quotas.standing, key)
        answer.span = serving.traces.generation(answer.about(), work["do"])
        try:
            answer.asked = await process.ask({**work, "generation": answer.id})
            serving.metrics.running.inc()
            if answer.begun is not None:
                answer.begun.add_done_callback(answer._refused)
        except BaseException as error:
            answer.cut(_reason(error))
            raise
        return answer

    async def __aenter__(self) -> Answer:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        handed_on, self.is_handed_on = self.is_handed_on, False
        if not self.is_over and not (handed_on and error is None):
            self.cut(_reason(error))

    async def first(self) -> Mapping[str, Any]:
        """Wait until the model took it, and that is recorded: the event that says so. Raises
        `APIError` where it does not."""
        assert self.asked is not None
        event = await anext(self.asked)
        self._count(event)
        await self._kept()
        return event

    async def events(self) -> AsyncIterator[Mapping[str, Any]]:
        """What comes, up to the event that says "done"."""
        assert self.asked is not None
        async for event in self.asked:
            self._count(event)
            yield event

    async def finish(
        self, answer: Any = None, *, reason: str = "stop", usage: Mapping[str, Any] | None = None
    ) -> None:
        """Record that it is whole: before it is acknowledged."""
        self.usage = usage = dict(usage or {})
        self._over("finished")
        for kind in ("prompt_tokens", "completion_tokens"):
            self.serving.metrics.tokens.labels(self.entry.name, kind).inc(usage.get(kind, 0))
        if self.begun is not None:
            finish = self.serving.records.generations.finish
            kept = self.serving.write(finish, self.id, answer, reason=reason, usage=usage)
            await self._kept()
            await self.serving.written(kept)

    def cut(self, reason: str, answer: Any = None) -> None:
        """Record that it ended before its end; the model goes on with others."""
        if self.is_over:
            return
        self._over("cut")
        if self.begun is not None and not (self.begun.done() and self.begun.exception()):
            cut = self.serving.records.generations.cut
            self.serving.write(cut, self.id, reason, answer, **self.usage)

    def about(self) -> dict[str, Any]:
        """What every answer carries."""
        return {
            "generation_id": self.id,
            "model": self.entry.name,
            "model_hash": self.process.about.get("hash"),
            "verdict": self.entry.verdict,
            "seed": self.seed,
        }

    def headers(self) -> dict[str, str]:
        """The same for those who look at headers."""
        about = self.about()
        return {
            "x-generation-id": self.id,
            "x-model-hash": str(about["model_hash"] or "unknown"),
            "x-model-verdict": about["verdict"],
            **self.quota,
        }

    def _refused(self, begun: asyncio.Future[Any]) -> None:
        """A model does not go on with what could not be recorded, or is not allowed."""
        error = begun.exception()
        if error is not None and self.asked is not None:
            self.asked.fail(unwritten(error))

    def _count(self, event: Mapping[str, Any]) -> None:
        """Note what it took so far, for when it is cut: a piece of text is a token at least."""
        if "begun" in event:
            self.usage["prompt_tokens"] = event["begun"].get("prompt_tokens", 0)
        self.usage["completion_tokens"] += "text" in event

    async def _kept(self) -> None:
        """Wait until its start is recorded. Raises `APIError` where it is not."""
        if self.begun is not None:
            await self.serving.written(self.begun)
        if self.standing is not None:
            self.quota = headers_of(await self.serving.written(self.standing))

    def _over(self, state: str) -> None:
        self.is_over = True
        self.serving.metrics.generations.labels(self.entry.name, state).inc()
        self.serving.traces.end(self.span, state, self.usage)
        if self.asked is not None:
            self.serving.metrics.running.dec()
            self.asked.leave()


def _reason(error: BaseException | None) -> str:
    if isinstance(error, APIError):
        return error.code or f"refused: {error.status}"
    if error is None or isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return "cancelled"
    return f"the server failed: {type(error).__name__}"


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What comes of `work`, which is cancelled where the client goes."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError as error:  # the server was told to stop, and waited long enough
        raise APIError(503, "the server ends before the answer does: ask again",
                       code="server_ending", retry_after=5) from error  # fmt: skip
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    if task.cancelled():
        raise APIError(GONE, "the client has gone")
    return task.result()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
