"""`/v1/audio/transcriptions`, by models that hear, and `/v1/audio/speech`, by models that speak."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse

from morphogen.serve import speech as speaking
from morphogen.serve.answer import Answer, while_connected
from morphogen.serve.door import Generates
from morphogen.serve.errors import APIError
from morphogen.serve.routes._asked import Asked
from morphogen.serve.routes._works import sent
from morphogen.serve.serving import Here
from morphogen.serve.voices import ANY

router = APIRouter()

Form_ = Literal["json", "text", "verbose_json", "srt", "vtt"]
LONGEST = 4096  # characters of what is to be said, as OpenAI has it


class SpeechRequest(Asked):
    """A text to speak."""

    input: str
    voice: Any = None
    response_format: Literal["wav"] | None = None
    speed: float | None = None


@router.post("/v1/audio/speech")
async def speech(asked: SpeechRequest, request: Request, here: Here, access: Generates) -> Response:
    """A text as sound: a WAV. What a model cannot say whole is refused, with what is missing."""
    if asked.speed not in (None, 1):
        raise APIError(400, "no other speed than 1", param="speed", code="unsupported_parameter")
    if len(asked.input) > LONGEST:
        raise APIError(400, f"{len(asked.input):,} characters, and {LONGEST:,} at most",
                       param="input", code="string_above_max_length")  # fmt: skip
    entry, voice = here.entry(asked.model), asked.voice if isinstance(asked.voice, str) else ANY
    how, told = await speaking.pieces(here, entry, asked.input, voice)
    if missing := speaking.unsaid(entry, how, told):
        raise APIError(400, missing, param="input", code="unsaid")
    if not told:
        raise APIError(400, "there is nothing to say", param="input", code="empty")

    async def whole() -> tuple[Answer, bytes]:
        made = speaking.said(here, entry, told, voice=voice, access=access)
        said = [(answer, sound) async for _, answer, sound in made if answer is not None]
        return said[0][0], await speaking.whole(here, entry, [sound for _, sound in said])

    answer, sound = await while_connected(request, whole())
    return Response(sound, media_type="audio/wav", headers=answer.headers())


@router.post("/v1/audio/transcriptions")
async def transcriptions(
    *,
    request: Request,
    here: Here,
    access: Generates,
    file: Annotated[UploadFile, File()],
    model: Annotated[str, Form()],
    language: Annotated[str | None, Form()] = None,
    prompt: Annotated[str | None, Form()] = None,
    response_format: Annotated[Form_, Form()] = "json",
) -> Response:
    """Sound as a text."""
    options = {name: value for name, value in (("language", language), ("prompt", prompt)) if value}
    heard = await speaking.heard(
        here, request, here.entry(model), await sent(file), access=access, options=options
    )
    if response_format not in ("json", "verbose_json"):
        kind = ".txt" if response_format == "text" else f".{response_format}"
        if kind not in heard.forms:
            raise APIError(400, f"{model} does not tell when what was said",
                           param="response_format", code="unsupported_parameter")  # fmt: skip
        return PlainTextResponse(heard.forms[kind], headers=heard.answer.headers())
    body: dict[str, Any] = {"text": heard.text, "morphogen": heard.answer.about()}
    if response_format == "verbose_json":
        segments = [{"id": i, **each} for i, each in enumerate(heard.segments)]
        body |= {"task": "transcribe", "language": heard.language,
                 "duration": heard.seconds, "segments": segments}  # fmt: skip
    return JSONResponse(body, headers=heard.answer.headers())
