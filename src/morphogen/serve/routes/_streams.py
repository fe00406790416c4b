"""Server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi.responses import StreamingResponse

from morphogen.serve.answer import Answer
from morphogen.serve.errors import APIError


def stream(
    answer: Answer, chunks: AsyncIterator[Mapping[str, Any]], *, named: bool = False
) -> StreamingResponse:
    """Chunks as they come, then `[DONE]`; an error among them, as clients look for it. `named` ones
    say of which type they are in a line of their own, and the last is the end."""
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no", **answer.headers()}
    return StreamingResponse(_lines(answer, chunks, named), media_type="text/event-stream",
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
