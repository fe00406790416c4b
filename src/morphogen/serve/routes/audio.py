"""`/v1/audio/transcriptions`, for models that hear; none speaks yet, as `/v1/audio/speech` says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse

from morphogen.serve.door import Generates
from morphogen.serve.errors import APIError
from morphogen.serve.routes._asked import Asked
from morphogen.serve.routes._works import result_of, seeded, sent, worked
from morphogen.serve.serving import Here

router = APIRouter()

Form_ = Literal["json", "text", "verbose_json", "srt", "vtt"]


class SpeechRequest(Asked):
    """A text to speak."""

    input: str
    voice: Any = None


@router.post("/v1/audio/speech")
async def speech(asked: SpeechRequest, here: Here, access: Generates) -> None:
    """A text as sound."""
    raise _unfit(here.entry(asked.model).name, "speaks, and none does")


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
    entry = here.entry(model)
    process = await here.pool.get(entry)
    if process.about["tasks"].get("transcribe", "no such task") is not None:
        raise _unfit(entry.name, "hears")
    options = {"language": language, "prompt": prompt}
    work = {
        "do": "task", "task": "transcribe", "seed": seeded(0),
        "inputs": [await sent(file)],
        "options": {name: value for name, value in options.items() if value},
    }  # fmt: skip
    answer, events = await worked(here, request, entry, work, access=access)
    result = result_of(events)
    values, forms = result["values"], result.get("forms", {})
    if response_format not in ("json", "verbose_json"):
        kind = ".txt" if response_format == "text" else f".{response_format}"
        return PlainTextResponse(forms[kind], headers=answer.headers())
    body = {"text": values["text"][0], "morphogen": answer.about()}
    if response_format == "verbose_json":
        segments = [{"id": i, **each} for i, each in enumerate(values["segments"][0])]
        body |= {"task": "transcribe", "language": values["language"][0],
                 "duration": values["seconds"][0], "segments": segments}  # fmt: skip
    return JSONResponse(body, headers=answer.headers())


def _unfit(model: str, what: str) -> APIError:
    return APIError(400, f"no such model here: {model} is none that {what}", param="model",
                    code="no_such_model_here")  # fmt: skip
