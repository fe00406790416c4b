"""What the process of a model is asked once and answers once: tasks, vectors."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from fastapi import Request

from morphogen.serve.answer import Answer, while_connected
from morphogen.serve.catalogue import Entry
from morphogen.serve.serving import Serving


def seeded(seed: int | None) -> int:
    """A seed: the one that is given, or any."""
    return secrets.randbelow(2**31) if seed is None else seed


async def worked(
    here: Serving,
    request: Request,
    entry: Entry,
    work: Mapping[str, Any],
    *,
    prompt: str = "",
    access: Any = None,
) -> tuple[Answer, list[Mapping[str, Any]]]:
    """What a model made of it, recorded: the generation, and all events. Raises `APIError`."""
    answer = await Answer.begin(here, entry, work, prompt=prompt, access=access)
    async with answer:
        events = await while_connected(request, _all(answer))
        usage: Mapping[str, Any] = next((each["done"] for each in events if "done" in each), {})
        await answer.finish(_told(events), usage=usage)
    return answer, events


async def _all(answer: Answer) -> list[Mapping[str, Any]]:
    return [event async for event in answer.events()]


def _told(events: list[Mapping[str, Any]]) -> str | None:
    """What is recorded of a result: its texts."""
    items = [item for event in events for item in event.get("result", {}).get("items", ())]
    texts = [item["text"] for item in items if "text" in item]
    return "\n\n".join(texts) if texts else None
