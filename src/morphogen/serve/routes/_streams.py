"""An answer handed over: whole, or as server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from morphogen.serve.answer import Answer, while_connected
from morphogen.serve.errors import APIError


async def handed_over(
    request: Request,
    answer: Answer,
    whole: Callable[[], Coroutine[Any, Any, Mapping[str, Any]]],
    chunks: Callable[[], AsyncIterator[Mapping[str, Any]]] | None,
    *,
    named: bool = False,
) -> Response:
    """The `whole` for as long as the client waits for it; or, where they are asked for, its
    `chunks` as they come, then `[DONE]`; an error among them, as clients look for it. `named` ones
    say of which type they are in a line of their own, and the last is the end."""
    async with answer:
        if chunks is None:
            told = await while_connected(request, whole())
            return JSONResponse(told, headers=answer.headers())
        await answer.first()
        answer.is_handed_on = True
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no", **answer.headers()}
    return StreamingResponse(_lines(answer, chunks(), named), media_type="text/event-stream",
                             headers=headers)  # fmt: skip


async def _lines(
    answer: Answer, chunks: AsyncIterator[Mapping[str, Any]], named: bool
) -> AsyncIterator[str]:
    async with answer:
        try:
            async for chunk in chunks:
                name = f"event: {chunk['type']}\n" if named else ""
                yield f"{name}data: {json.dumps(chunk)}\n\n"
        except APIError as error:
            answer.cut(error.code or "error")
            yield f"data: {json.dumps(error.body())}\n\n"
            return
        if not named:
            yield "data: [DONE]\n\n"
