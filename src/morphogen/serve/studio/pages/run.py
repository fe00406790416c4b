"""One training: where it stands, its curves and samples as they come, stop, and go on.

The page is whole without scripts; with them, an event stream says what is new, and the page asks
for the parts of it that changed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from morphogen.core.amounts import duration
from morphogen.serve.curves import Follower, Told, chosen
from morphogen.serve.errors import APIError
from morphogen.serve.serving import Serving
from morphogen.serve.studio.deeds import done_with
from morphogen.serve.studio.page import VIEW_POLICY, Page, at, moved, page
from morphogen.serve.studio.visitor import Reads, Trains
from morphogen.serve.trainings import Training

EVERY = 1.0  # seconds between two looks at a log
QUIET = 10  # looks without news, after which a line says that the server is there
EVENTS = 60  # that are shown
SHEETS = 8  # of samples that are shown, the newest
MOST_LETTERS = 4000  # of a sheet of text
KINDS = {
    ".png": ("picture", "image/png"), ".wav": ("sound", "audio/wav"),
    ".txt": ("text", "text/plain"), ".csv": ("text", "text/plain"), ".json": ("text", "text/plain"),
}  # fmt: skip

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/train/run/{name:path}")
async def run(name: str, request: Request, visitor: Reads) -> Response:
    """All that is known of it."""
    trainings = visitor.here.trainings

    def read() -> dict[str, Any]:
        training = trainings.find(name)
        _, told = Follower(training).look()
        return {
            "training": training, "standing": standing(training, told), "told": told,
            "numbers": _numbers(told), "sheets": _sheets(training), "recipe": training.recipe,
            "has_model": (training.path / "config.json").is_file(),
            "said": training.said() if training.state in ("starting", "failed") else "",
        }  # fmt: skip

    facts = await asyncio.to_thread(read)
    return page(request, visitor, "run", num_events=EVENTS, **facts)


@router.post("/train/run/{name:path}")
async def do(name: str, request: Request, visitor: Trains) -> Response:
    """Stop it, or go on with it."""
    own = visitor.here.trainings
    deeds = {"stop": own.stop, "resume": own.resume}
    training = await done_with(
        request, visitor, verb="train", find=own.find, name=name, deeds=deeds
    )
    return moved(f"/train/run/{at(training.name)}")


@router.get("/train/curves/{name:path}")
async def curves(name: str, visitor: Reads) -> Response:
    """Server-sent events: points as they are logged, and where the training stands."""
    training = await asyncio.to_thread(visitor.here.trainings.find, name)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    followed = _followed(visitor.here, training)
    return StreamingResponse(followed, media_type="text/event-stream", headers=headers)


@router.get("/train/sheet/{name:path}")
async def sheet(name: str, of: str, visitor: Reads) -> Response:
    """A sheet of samples."""
    training = await asyncio.to_thread(visitor.here.trainings.find, name)
    known = {_within(training, file): file for file in training.sheets()}
    if of not in known:
        raise APIError(404, "there is no such sheet of samples")
    _, media = _kind(known[of])
    return FileResponse(
        known[of], media_type=media, headers={"content-security-policy": VIEW_POLICY}
    )


def standing(training: Training, told: Told) -> dict[str, Any]:
    """Where it stands, in words."""
    progress = training.progress(told.step, told.seconds)
    left = None
    if training.is_going and progress:
        left = told.seconds * (1 - progress) / progress
    return {
        "state": training.state, "progress": 1.0 if training.state == "done" else progress,
        "step": f"step {told.step:,}", "seconds": duration(told.seconds),
        "left": "" if left is None else f", about {duration(left)} left",
    }  # fmt: skip


async def _followed(here: Serving, training: Training) -> AsyncIterator[str]:
    """What is new, until the training is over, or the server ends."""
    follower, told = Follower(training), Told()
    before: tuple[str, int] | None = None  # what was shown: the state, how many sheets
    quiet = 0

    def look() -> tuple[Training, bool, Told, int]:
        now = here.trainings.now(training)
        return now, *follower.look(), len(now.sheets())

    while here.is_ready:
        try:
            now, anew, news, num_sheets = await asyncio.to_thread(look)
        except OSError:  # its folder was taken away
            yield _line(over=True)
            return
        told.step, told.seconds = news.step or told.step, news.seconds or told.seconds
        points = chosen(news.points) if anew else news.points
        stands = standing(now, told)
        if anew or points or news.events or before != (now.state, num_sheets):
            shown = {"sheets": num_sheets, "events": len(news.events)}
            yield _line(anew=anew, points=points, **stands, **shown)
            quiet = 0
        before = (now.state, num_sheets)
        if not now.is_going:
            yield _line(over=True, **stands)
            return
        quiet += 1
        if quiet >= QUIET:  # whoever left is noticed when something is sent
            yield ":\n\n"
            quiet = 0
        await asyncio.sleep(EVERY)


def _line(**told: Any) -> str:
    return f"data: {json.dumps(told)}\n\n"


def _numbers(told: Told) -> list[dict[str, Any]]:
    """Each curve in a row: where it began, its least, and where it is."""
    return [
        {"name": name, "first": points[0][1], "least": min(value for _, value in points),
         "last": points[-1][1], "step": points[-1][0]}
        for name, points in chosen(told.points).items()
    ]  # fmt: skip


def _sheets(training: Training) -> list[dict[str, Any]]:
    """The newest sheets, newest first, each with what is known of how to show it."""
    found = []
    for file in reversed(training.sheets()[-SHEETS:]):
        kind, _ = _kind(file)
        text = ""
        if kind == "text":
            with file.open(errors="replace") as opened:
                text = opened.read(MOST_LETTERS)
        step = file.stem.lstrip("0") or "0"
        name = "at the end" if step == "final" else f"at step {step}"
        found.append({"of": _within(training, file), "kind": kind, "text": text, "name": name})
    return found


def _within(training: Training, file: Path) -> str:
    return file.relative_to(training.path).as_posix()


def _kind(file: Path) -> tuple[str, str]:
    return KINDS.get(file.suffix, ("file", "application/octet-stream"))
