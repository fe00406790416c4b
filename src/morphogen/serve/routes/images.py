"""`/v1/images/generations`, `/edits` and `/variations`, for models of pictures.

A prompt is what the model was trained to be told: a class by its name, or a caption. One that was
told nothing takes none. Of items of parts, a picture is drawn given the text beside it; one that is
given is not redrawn in part, as its codes are of no place in it, and has no text to be drawn like.
"""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from pydantic import Field

from morphogen.serve.answer import Answer
from morphogen.serve.catalogue import Entry
from morphogen.serve.door import Generates
from morphogen.serve.errors import APIError
from morphogen.serve.parts import TEXTS, Way, way
from morphogen.serve.routes._asked import Asked
from morphogen.serve.routes._works import result_of, seeded, sent, worked
from morphogen.serve.serving import Here, Serving

MOST_PICTURES = 16
NO_PROMPT = {"", "*"}
PICTURES = ("image",)  # modalities

router = APIRouter()

Num = Annotated[int | None, Form(ge=1, le=MOST_PICTURES)]
Seed = Annotated[int | None, Form(ge=-(2**63), lt=2**63)]
Kind = Annotated[Literal["b64_json", "url"] | None, Form()]


class ImageRequest(Asked):
    """Pictures to draw."""

    prompt: str
    n: int | None = Field(1, ge=1, le=MOST_PICTURES)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    size: str | None = None
    response_format: Literal["b64_json", "url"] | None = None


@router.post("/v1/images/generations")
async def generations(
    asked: ImageRequest, request: Request, here: Here, access: Generates
) -> Response:
    """New pictures."""
    _check_size(asked.size)
    entry, num = here.entry(asked.model), asked.n or 1
    work: dict[str, Any]
    if beside := await _beside(here, entry):
        is_told = asked.prompt.strip() not in NO_PROMPT
        work = beside.work({"text": asked.prompt} if is_told else None, num)
    else:
        cond = await _conditions(here, asked.model, asked.prompt)
        work = {"do": "generate", "cond": cond, "options": {"num": num}}
    work["seed"] = seeded(asked.seed)
    answer, events = await worked(here, request, entry, work, prompt=asked.prompt, access=access)
    items = result_of(events)["items"]
    drawn = [beside.part(each) for each in items] if beside else items
    return _pictures(answer, drawn, asked.response_format)


@router.post("/v1/images/edits")
async def edits(
    *,
    request: Request,
    here: Here,
    access: Generates,
    image: Annotated[UploadFile, File()],
    model: Annotated[str, Form()],
    prompt: Annotated[str, Form()] = "",
    mask: Annotated[UploadFile | None, File()] = None,
    n: Num = 1,
    seed: Seed = None,
    response_format: Kind = None,
) -> Response:
    """A picture of which a part is drawn anew: what is transparent or black in the mask; without
    one, its middle."""
    how = {"options": {"mask": "center"}} if mask is None else {"hidden": await sent(mask)}
    return await _redrawn(
        "fill", how, request, here, access, image=image, model=model, prompt=prompt,
        num=n or 1, seed=seed, form=response_format,
    )  # fmt: skip


@router.post("/v1/images/variations")
async def variations(
    *,
    request: Request,
    here: Here,
    access: Generates,
    image: Annotated[UploadFile, File()],
    model: Annotated[str, Form()],
    n: Num = 1,
    seed: Seed = None,
    response_format: Kind = None,
) -> Response:
    """Pictures like another."""
    return await _redrawn(
        "vary", {}, request, here, access, image=image, model=model, prompt="", num=n or 1,
        seed=seed, form=response_format,
    )  # fmt: skip


async def _redrawn(
    task: str,
    how: dict[str, Any],
    request: Request,
    here: Serving,
    access: Any,
    *,
    image: UploadFile,
    model: str,
    prompt: str,
    num: int,
    seed: int | None,
    form: str | None,
) -> Response:
    cond = await _conditions(here, model, prompt)
    work = {
        **how, "do": "task", "task": task, "seed": seeded(seed), "cond": cond,
        "inputs": [await sent(image)], "options": {**how.get("options", {}), "num": num},
    }  # fmt: skip
    answer, events = await worked(
        here, request, here.entry(model), work, prompt=prompt, access=access
    )
    _, *drawn = result_of(events)["items"]  # the first is what was given
    return _pictures(answer, drawn, form)


async def _beside(here: Serving, entry: Entry) -> Way | None:
    """How a model draws pictures that stand beside texts in its items; None where it does not."""
    about = (await here.pool.get(entry)).about
    found = way(about.get("parts", {}), TEXTS, PICTURES)
    return found if found is not None and found.is_open_to(about) else None


async def _conditions(here: Serving, model: str, prompt: str) -> dict[str, Any]:
    """What a prompt tells a model. Raises `APIError` for a model of no pictures, and for a prompt
    that means nothing to it."""
    process = await here.pool.get(here.entry(model))
    if beside := way(process.about.get("parts", {}), TEXTS, PICTURES):
        asked = {beside.given: {"text": prompt or "..."}, beside.drawn: None}
        raise APIError(
            400, f"{model} draws pictures whole, each given the text beside it: ask "
            f"/v1/images/generations, or /v1/tasks/fill for {json.dumps({'parts': asked})}",
            param="model", code="no_such_model_here",
        )  # fmt: skip
    if process.about.get("modality") != "image":
        raise APIError(400, f"{model} makes no pictures, but {process.about.get('modality')}",
                       param="model", code="no_such_model_here")  # fmt: skip
    if prompt.strip() in NO_PROMPT:
        return {}
    conditions = process.about.get("conditions", {})
    for name, known in conditions.items():
        if known == "text" or prompt in known:
            return {name: prompt}
    classes = [each for known in conditions.values() if known != "text" for each in known]
    takes = f"one of {', '.join(classes[:20])}" if classes else "no prompt: leave it empty"
    raise APIError(400, f"{model} takes {takes}", param="prompt", code="unknown_prompt")


def _check_size(size: str | None) -> None:
    if size not in (None, "auto"):
        raise APIError(400, "a model draws pictures of the size that it learned from", param="size",
                       code="unsupported_parameter")  # fmt: skip


def _pictures(answer: Answer, items: list[dict[str, Any]], form: str | None) -> Response:
    told = [
        {"url": f"data:{each['media_type']};base64,{each['file']}"}
        if form == "url"
        else {"b64_json": each["file"]}
        for each in items
    ]
    body = {"created": int(time.time()), "data": told, "morphogen": answer.about()}
    return JSONResponse(body, headers=answer.headers())
