"""`/v1/models`: what there is to ask."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter

from morphogen.serve.door import Reads
from morphogen.serve.serving import Here

router = APIRouter()


@router.get("/v1/models")
async def models(here: Here, access: Reads) -> dict[str, Any]:
    """Every model in the folder."""
    entries = await asyncio.to_thread(here.catalogue.entries)
    return {"object": "list", "data": [told(here, each) for each in entries.values()]}


@router.get("/v1/models/{name:path}")
async def model(name: str, here: Here, access: Reads) -> dict[str, Any]:
    """One of them."""
    return told(here, here.entry(name))


def told(here: Here, entry: Any) -> dict[str, Any]:
    """A model as it is listed, with what is known once it is open."""
    listed = entry.to_json()
    process = here.pool.open.get(entry.name)
    is_open = process is not None and process.is_alive
    about = process.about if process is not None and is_open else {}
    listed["morphogen"] |= {"open": is_open}
    known = ("family", "modality", "context_length", "chats")
    listed["morphogen"] |= {name: about[name] for name in known if name in about}
    listed["morphogen"]["model_hash"] = about.get("hash", entry.hash)
    return listed
