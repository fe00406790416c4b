"""`/v1/tasks/{task}` and `/v1/generate`: whatever a model of any family and modality can do.

A route for each task there is, those of plugins among them; its options are the keyword arguments
of the task's own function. They are read off it when somebody asks for the document of the API, and
checked where the model runs.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from morphogen.core import discover
from morphogen.serve.door import Generates, Reads
from morphogen.serve.routes._works import result_of, said_in, seeded, worked
from morphogen.serve.serving import Here

MOST_INPUTS = 1024

CONDITIONS = "conditions by name; a picture or a sound as an input: file and suffix"

router = APIRouter()


class Part(BaseModel):
    """A part of an item: a text, or a file with the suffix of its kind."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = None
    file: str | None = Field(None, description="base64")
    suffix: str | None = Field(None, examples=[".wav"])


class Given(BaseModel):
    """One input: a text, a value (a row), a file with the suffix of its kind, or parts."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = None
    value: Any = None
    file: str | None = Field(None, description="base64")
    suffix: str | None = Field(None, examples=[".png"])
    parts: dict[str, Part | None] | None = Field(None, description="by name; null: to be drawn")


class GenerateRequest(BaseModel):
    """New items of what a model learned."""

    model_config = ConfigDict(extra="forbid")

    model: str
    num: int = Field(1, ge=1, le=256)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    cond: dict[str, Any] = Field({}, description=CONDITIONS)
    options: dict[str, Any] = Field({}, description="as in `morphogen show task generate`")


class Hidden(BaseModel):
    """What of an item is to be drawn anew: a picture of it, or places in a text."""

    model_config = ConfigDict(extra="forbid")

    file: str | None = Field(None, description="base64; transparent, or black, where it is hidden")
    suffix: str | None = Field(None, examples=[".png"])
    spans: list[list[int]] | None = Field(None, examples=[[[12, 20]]])


class TaskRequest(BaseModel):
    """What a task works on."""

    model_config = ConfigDict(extra="forbid")

    model: str
    inputs: Annotated[list[Given], Field(max_length=MOST_INPUTS)] = []
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    cond: dict[str, Any] = Field({}, description=CONDITIONS)
    options: dict[str, Any] = {}
    hidden: Hidden | None = Field(None, description="of `fill`, in place of its option `mask`")


@router.post("/v1/generate")
async def generate(
    asked: GenerateRequest, request: Request, here: Here, access: Generates
) -> Response:
    """Draw new items; they are drawn together with those that others ask for."""
    options = {**asked.options, "num": asked.num}
    work = {"do": "generate", "seed": seeded(asked.seed), "cond": asked.cond, "options": options}
    answer, events = await worked(here, request, here.entry(asked.model), work, access=access)
    result = result_of(events)
    return JSONResponse({**result, "morphogen": answer.about()}, headers=answer.headers())


@router.get("/v1/tasks")
async def tasks(model: str, here: Here, access: Reads) -> dict[str, Any]:
    """The tasks there are, and why one does not apply to a model; it is opened to tell."""
    process = await here.pool.get(here.entry(model))
    reasons = process.about.get("tasks", {})
    return {"model": model, "tasks": reasons}


def route_of(name: str) -> None:
    """Add the route of a task."""

    async def run(asked: TaskRequest, request: Request, here: Here, access: Generates) -> Response:
        inputs = [each.model_dump(exclude_none=True) for each in asked.inputs]
        work = {"do": "task", "task": name, "seed": seeded(asked.seed), "inputs": inputs,
                "cond": asked.cond, "options": asked.options}  # fmt: skip
        if asked.hidden is not None:
            work["hidden"] = asked.hidden.model_dump(exclude_none=True)
        answer, events = await worked(
            here, request, here.entry(asked.model), work, prompt=said_in(inputs), access=access
        )
        result = result_of(events)
        return JSONResponse({**result, "morphogen": answer.about()}, headers=answer.headers())

    router.post(f"/v1/tasks/{name}", name=name, operation_id=f"task_{name}")(run)


for task in discover.names("task"):
    route_of(task)
