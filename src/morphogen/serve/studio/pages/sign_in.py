"""Who are you?"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from morphogen.core.errors import AccessError
from morphogen.serve.studio.page import Page, moved, page
from morphogen.serve.studio.visitor import SESSION, Anyone, put_cookie

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/sign-in")
async def asked(request: Request, visitor: Anyone, next: str = "/") -> Response:
    """The form."""
    return page(request, visitor, "sign_in", next=own(next), failed=None, name="")


@router.post("/sign-in")
async def signed_in(request: Request, visitor: Anyone) -> Response:
    """Begin a session."""
    form = await request.form()
    name, word = str(form.get("name", "")), str(form.get("password", ""))
    to = own(str(form.get("next", "/")))
    client = request.client.host if request.client else ""
    visitor.here.rates.check(f"sign-in {client}")
    records = visitor.here.records
    try:
        user = await asyncio.to_thread(records.users.sign_in, name, word)
    except AccessError as error:
        facts = {"next": to, "failed": error.message, "name": name}
        return page(request, visitor, "sign_in", status=401, **facts)
    response = moved(to)
    session = await visitor.here.record(records.sign_ins.new, user)
    put_cookie(request, response, SESSION, session)
    return response


@router.post("/sign-out")
async def signed_out(request: Request, visitor: Anyone) -> Response:
    """End it."""
    if visitor.is_signed_in:
        await visitor.here.record(visitor.here.records.sign_ins.end, visitor.word)
    response = moved("/sign-in")
    response.delete_cookie(SESSION)
    return response


def own(address: str) -> str:
    """An address of this server; its start where it leads elsewhere."""
    leads_away = not address.startswith("/") or address.startswith(("//", "/\\"))
    return "/" if leads_away or not address.isprintable() else address
