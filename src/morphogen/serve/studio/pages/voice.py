"""A conversation that is spoken: what was said is written down, and what is written is said."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, File, Request, Response, UploadFile
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from morphogen.serve import speech
from morphogen.serve.errors import APIError
from morphogen.serve.routes._works import sent
from morphogen.serve.serving import Serving
from morphogen.serve.studio.visitor import Generates
from morphogen.serve.voices import ANY, Speaking

router = APIRouter(include_in_schema=False)


class ToSay(BaseModel):
    """A text, and whose voice says it."""

    text: str
    voice: str = ANY


async def of_chats(here: Serving) -> dict[str, list[dict[str, Any]]]:
    """For the page of a conversation: who writes down what is said, and who says what is written.
    Those that are open come first, as they answer at once."""
    known = list((await asyncio.to_thread(here.catalogue.entries)).values())
    known.sort(key=lambda entry: entry.name not in here.pool.open)
    ears = [(entry, speech.hearing(here, entry)) for entry in known]
    mouths = [(entry, speech.speaking(here, entry)) for entry in known]
    return {
        "hearers": [{"name": e.name, "seconds": how.seconds} for e, how in ears if how],
        "speakers": [
            {"name": e.name, "voices": how.voices, "words": how.words} for e, how in mouths if how
        ],
    }  # fmt: skip


@router.post("/hear/{name:path}")
async def hear(
    name: str, request: Request, visitor: Generates, file: Annotated[UploadFile, File()]
) -> Response:
    """A sound as a text."""
    here = visitor.here
    found = await speech.heard(
        here, request, here.entry(name), await sent(file), access=visitor.access, options={}
    )
    return JSONResponse({"text": found.text}, headers=found.answer.headers())


@router.post("/say/{name:path}")
async def say(name: str, told: ToSay, visitor: Generates) -> Response:
    """A text as sounds, piece by piece."""
    here, entry = visitor.here, visitor.here.entry(name)
    how, pieces = await speech.pieces(here, entry, told.text, told.voice)
    made = speech.said(here, entry, pieces, voice=told.voice, access=visitor.access)
    return StreamingResponse(
        _lines(made, how), media_type="text/event-stream", headers={"cache-control": "no-store"}
    )  # fmt: skip


async def _lines(made: AsyncGenerator[Any], how: Speaking) -> AsyncIterator[str]:
    """Server-sent events: each piece as it comes, with its sound, or why it is not said."""
    try:
        async with aclosing(made):
            async for piece, answer, sound in made:
                if answer is None:
                    yield _line(unsaid=piece.text, why=speech.because(how, piece))
                    continue
                told = base64.b64encode(sound).decode()
                yield _line(said=piece.text, sound=told, generation=answer.id)
    except APIError as error:
        yield _line(error=error.message)


def _line(**told: Any) -> str:
    return f"data: {json.dumps(told)}\n\n"
