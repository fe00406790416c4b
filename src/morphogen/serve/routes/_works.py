"""What the process of a model is asked once and answers once: tasks, vectors, whole texts."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile

from morphogen.serve.answer import Answer, while_connected
from morphogen.serve.catalogue import Entry
from morphogen.serve.parts import each_part
from morphogen.serve.recorded import words_of
from morphogen.serve.serving import Serving

Events = list[Mapping[str, Any]]


def seeded(seed: int | None) -> int:
    """A seed: the one that is given, or any."""
    return secrets.randbelow(2**31) if seed is None else seed


async def sent(file: UploadFile) -> dict[str, str]:
    """A file as the process of a model is given it."""
    data = base64.b64encode(await file.read()).decode()
    return {"file": data, "suffix": "." + (file.filename or "").rpartition(".")[2].lower()}


async def worked(
    here: Serving,
    request: Request,
    entry: Entry,
    work: Mapping[str, Any],
    *,
    prompt: Any = "",
    access: Any = None,
) -> tuple[Answer, Events]:
    """What a model made of it, recorded: the generation, and all events. Raises `APIError`."""
    process = await here.pool.get(entry)  # which is not to be broken off where the client goes
    prompt = prompt or words_of(work.get("cond") or {}, process.about)
    return await while_connected(request, made(here, entry, work, prompt=prompt, access=access))


async def made(
    here: Serving,
    entry: Entry,
    work: Mapping[str, Any],
    *,
    prompt: Any = "",
    access: Any = None,
) -> tuple[Answer, Events]:
    """The same, whether somebody waits for it or not."""
    answer = await Answer.begin(here, entry, work, prompt=prompt, access=access)
    async with answer:
        events = [event async for event in answer.events()]
        usage: Mapping[str, Any] = next((each["done"] for each in events if "done" in each), {})
        finish = next((each["finish"] for each in events if "finish" in each), "stop")
        await answer.finish(text_of(events), reason=finish, usage=usage)
    return answer, events


def said_in(inputs: Sequence[Mapping[str, Any]]) -> str:
    """The texts among what a task works on."""
    told = [part for each in inputs for part in each_part(each).values() if part]
    return "\n\n".join(each["text"] for each in told if each.get("text"))


def result_of(events: Events) -> dict[str, Any]:
    """What a task gave."""
    found: dict[str, Any] = next(event["result"] for event in events if "result" in event)
    return found


def text_of(events: Events) -> str | None:
    """What is recorded of an answer: its texts."""
    pieces = [event["text"] for event in events if "text" in event]
    if pieces:
        return "".join(pieces)
    items = [item for event in events for item in event.get("result", {}).get("items", ())]
    parts = [part for item in items for part in each_part(item).values()]
    texts = [part["text"] for part in parts if "text" in part]
    return "\n\n".join(texts) if texts else None
