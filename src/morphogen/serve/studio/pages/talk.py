"""What is said in a conversation, and the answer piece by piece."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from morphogen.serve import grounds as grounding
from morphogen.serve.answer import Answer
from morphogen.serve.errors import APIError
from morphogen.serve.studio.saying import Said, prompt_of, work_of
from morphogen.serve.studio.visitor import Generates

router = APIRouter(include_in_schema=False)


@router.post("/talk/{name:path}")
async def talk(name: str, said: Said, request: Request, visitor: Generates) -> Response:
    """Go on with a conversation, or from a text."""
    here, entry = visitor.here, visitor.here.entry(name)
    about = (await here.pool.get(entry)).about
    path = []
    if said.after is not None:
        path = await asyncio.to_thread(here.records.prompts.path, said.after)
    chats, access, grounds = bool(about.get("chats")), visitor.access, None
    work = work_of(entry.name, said, path, chats=chats)
    if chats and (index := said.settings.get("index")):
        answer, grounds = await grounding.begun(here, index, entry, work, access=access)
    else:
        answer = await Answer.begin(here, entry, work, prompt=prompt_of(work), access=access)
    async with answer:
        await answer.first()
        answer.is_handed_on = True
    headers = {"cache-control": "no-store", **answer.headers()}
    return StreamingResponse(
        _lines(answer, grounds), media_type="text/event-stream", headers=headers
    )


async def _lines(answer: Answer, grounds: grounding.Grounds | None) -> AsyncIterator[str]:
    """Server-sent events: pieces of the text, then where the answer stands. Whoever leaves cuts it;
    what there is of it is recorded."""
    text, finish = "", "stop"
    usage: dict[str, Any] = {}
    async with answer:
        try:
            async for event in answer.events():
                if piece := event.get("text"):
                    text += piece
                    yield _line(text=piece)
                finish = event.get("finish", finish)
                usage = event.get("done", usage)
            if grounds is not None:
                await grounds.judge(answer, [text])
            await answer.finish(text, reason=finish, usage=usage)
            yield _line(over=answer.id, seed=answer.seed, finish=finish, usage=usage)
        except APIError as error:
            answer.cut(error.code or "error", text or None)
            yield _line(error=error.message)
        except (asyncio.CancelledError, GeneratorExit):
            answer.cut("cancelled", text or None)
            raise


def _line(**told: Any) -> str:
    return f"data: {json.dumps(told)}\n\n"
