"""`/v1/audio/*`: there are no models of sound yet, which is said by name."""

from __future__ import annotations

from typing import Annotated, Any, NoReturn

from fastapi import APIRouter, File, Form, UploadFile

from morphogen.serve.door import Generates
from morphogen.serve.errors import APIError
from morphogen.serve.routes._asked import Asked
from morphogen.serve.serving import Here, Serving

router = APIRouter()


class SpeechRequest(Asked):
    """A text to speak."""

    input: str
    voice: Any = None


@router.post("/v1/audio/speech")
async def speech(asked: SpeechRequest, here: Here, access: Generates) -> None:
    """A text as sound."""
    _refuse(here, asked.model, "speaks")


@router.post("/v1/audio/transcriptions")
async def transcriptions(
    here: Here,
    access: Generates,
    file: Annotated[UploadFile, File()],
    model: Annotated[str, Form()],
) -> None:
    """Sound as a text."""
    _refuse(here, model, "transcribes")


def _refuse(here: Serving, model: str, what: str) -> NoReturn:
    entry = here.entry(model)
    raise APIError(400, f"no such model here: {entry.name} is none that {what}, and none is",
                   param="model", code="no_such_model_here")  # fmt: skip
