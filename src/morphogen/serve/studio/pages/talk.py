"""What is said in a conversation, and the answer piece by piece."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ValidationError

from morphogen.serve.answer import Answer
from morphogen.serve.errors import APIError
from morphogen.serve.routes._asked import Drawn
from morphogen.serve.routes.chat import ChatRequest
from morphogen.serve.routes.completions import CompletionRequest
from morphogen.serve.studio.visitor import Generates

USUAL = 256  # tokens at most

router = APIRouter(include_in_schema=False)


class Said(BaseModel):
    """One more turn."""

    text: str | None = None  # none: another answer, or what follows
    after: int | None = None  # the node that it follows
    system: str = ""  # told before the first turn
    settings: dict[str, str] = {}  # seed, most, and how tokens are drawn


@router.post("/talk/{name:path}")
async def talk(name: str, said: Said, request: Request, visitor: Generates) -> Response:
    """Go on with a conversation, or from a text."""
    here, entry = visitor.here, visitor.here.entry(name)
    about = (await here.pool.get(entry)).about
    path = []
    if said.after is not None:
        path = await asyncio.to_thread(here.records.prompts.path, said.after)
    work = _asked(entry.name, said, path, chats=bool(about.get("chats")))
    prompt = work["messages"] if "messages" in work else work["prompts"][0]
    answer = await Answer.begin(here, entry, work, prompt=prompt, access=visitor.access)
    async with answer:
        await answer.first()
        answer.is_handed_on = True
    headers = {"cache-control": "no-store", **answer.headers()}
    return StreamingResponse(_lines(answer), media_type="text/event-stream", headers=headers)


def _asked(name: str, said: Said, path: Sequence[Any], *, chats: bool) -> dict[str, Any]:
    """As the process of a model is asked. Raises `APIError` for settings that cannot be."""
    told: dict[str, Any] = {
        key: value for key, value in said.settings.items() if key in Drawn.model_fields and value
    }
    told |= {"model": name, "max_tokens": said.settings.get("most") or USUAL}
    try:
        if not chats:
            text = "".join([each.text for each in path] if said.text is None else [said.text])
            return CompletionRequest.model_validate({**told, "prompt": text}).work()
        messages = [{"role": each.role, "content": each.text} for each in path]
        if said.system and not messages:
            messages.append({"role": "system", "content": said.system})
        if said.text is not None:
            messages.append({"role": "user", "content": said.text})
        return ChatRequest.model_validate({**told, "messages": messages}).work()
    except ValidationError as error:
        first = error.errors()[0]
        raise APIError(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


async def _lines(answer: Answer) -> AsyncIterator[str]:
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
