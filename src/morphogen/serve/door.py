"""Who asks, and whether they may.

    Authorization: Bearer mg-...    a key, which has an owner and a role
    no key, on this machine         whoever works here, who may do all
    no key, from elsewhere          nobody

On this machine a web page that the user visits could ask as well: so a request must name this
machine as its host, and one that says from which page it comes must come from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

import structlog
from fastapi import Depends, Request

from morphogen.core.errors import AccessError, MorphogenError, RecordsError
from morphogen.serve.errors import APIError
from morphogen.serve.serving import Serving, serving_of, unwritten
from morphogen.serve.settings import LOCAL

KEY = "mg-"  # what our keys begin with: others stand for none, as clients must send something
log = structlog.get_logger("morphogen.serve")


def may(action: str) -> Callable[[Request], Awaitable[Any]]:
    """A dependency of a route: who asks, if they may do this. Raises `APIError`."""

    async def let_in(request: Request) -> Any:
        here = serving_of(request)
        check_place(here, request)
        access = await _access(here, request)
        who = "here" if access is None or access.key_id is None else f"key {access.key_id}"
        here.rates.check(who)
        if access is not None:
            try:
                access.check(action)
            except MorphogenError as error:
                raise APIError(403, error.message, code="not_allowed") from error
        request.state.who = who
        return access

    return let_in


Reads = Annotated[Any, Depends(may("read"))]
Generates = Annotated[Any, Depends(may("generate"))]


def check_place(here: Serving, request: Request) -> None:
    """Raise `APIError` for a request that another site has a browser send."""
    host = _name(f"//{request.headers.get('host', '')}")
    if here.settings.is_local and host not in LOCAL:
        raise APIError(403, f"this server answers to its own machine alone, not as {host!r}",
                       code="wrong_host")  # fmt: skip
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise APIError(403, f"a page of {origin} may not ask here", code="wrong_origin")


async def _access(here: Serving, request: Request) -> Any:
    if here.records is None:
        return None
    scheme, _, word = request.headers.get("authorization", "").partition(" ")
    word = word.strip() if scheme.lower() == "bearer" else ""
    if not word.startswith(KEY):
        if here.settings.is_local:
            return here.local
        found = "there is no key" if not word else "the key is not known"
        raise APIError(401, f"{found}: Authorization: Bearer {KEY}...", code="invalid_api_key")
    try:
        return await asyncio.to_thread(here.records.keys.authenticate, word)
    except AccessError as error:
        raise APIError(401, error.message, code="invalid_api_key") from error
    except RecordsError as error:
        log.error("records", why=str(error))
        raise unwritten(error) from error


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
