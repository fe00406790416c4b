"""The first page: which models there are."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from morphogen.serve.studio.page import Page, page
from morphogen.serve.studio.visitor import Reads

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/")
async def start(request: Request, visitor: Reads, find: str = "") -> Response:
    """Every model in the folder, or those whose name, family or modality holds a word."""
    here = visitor.here
    entries = (await asyncio.to_thread(here.catalogue.entries)).values()
    words = find.lower().split()
    shown = [
        each for each in entries
        if all(word in f"{each.name} {each.family} {each.modality}".lower() for word in words)
    ]  # fmt: skip
    opened = {name for name, process in here.pool.open.items() if process.is_alive}
    return page(
        request, visitor, "start", folder=here.settings.models, shown=shown, opened=opened,
        find=find, num=len(entries),
    )  # fmt: skip
