"""Data that the server was told of: items as their codec shows them, and what is wrong with it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response

from morphogen.serve.errors import APIError
from morphogen.serve.studio.page import Page, page
from morphogen.serve.studio.pages.play import keep_view
from morphogen.serve.studio.visitor import Reads, Visitor

SHOWN = 24  # items of a page
PATIENCE = 600.0  # seconds that a look may take

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/data")
async def sources(request: Request, visitor: Reads) -> Response:
    """What there is."""
    return page(request, visitor, "data", sources=visitor.here.settings.data)


@router.get("/data/{number}")
async def items(
    number: int, request: Request, visitor: Reads, first: int = 0, look: bool = False
) -> Response:
    """Some items; reading them takes a moment, which the page tells before."""
    source = _source(visitor, number)
    facts: dict[str, Any] = {"source": source, "number": number, "first": first, "num": SHOWN}
    if first < 0:
        raise APIError(400, "the first item is 0")
    if not look:
        return page(request, visitor, "items", found=None, view=None, **facts)
    found = await _look({"source": str(source), "first": first, "num": SHOWN})
    name = f"data-{number}-{first}"
    keep_view(request, name, found.pop("html"))
    return page(request, visitor, "items", found=found, view=name, **facts)


@router.get("/data/{number}/check")
async def check(number: int, request: Request, visitor: Reads, look: bool = False) -> Response:
    """Every defect, with what to do; all of the data is read for it."""
    source = _source(visitor, number)
    found = await _look({"source": str(source), "check": True}) if look else None
    return page(request, visitor, "check", found=found, source=source, number=number)


def _source(visitor: Visitor, number: int) -> Path:
    known = visitor.here.settings.data
    if not 0 <= number < len(known):
        raise APIError(404, "there is no such data: morphogen serve --data FOLDER")
    return known[number]


async def _look(told: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own says. Raises `APIError`."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "morphogen.serve.looking", json.dumps(told),
        stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(child.communicate(), PATIENCE)
    except BaseException as error:
        child.kill()
        await child.wait()
        if isinstance(error, TimeoutError):
            raise APIError(503, "reading it took too long", code="too_long") from error
        raise
    if child.returncode:
        raise APIError(500, "reading it failed; the log says where")
    answer: dict[str, Any] = json.loads(out)
    if "failed" in answer:
        raise APIError(400, answer["failed"])
    found: dict[str, Any] = answer["found"]
    return found
