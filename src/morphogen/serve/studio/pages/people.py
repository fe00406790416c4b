"""Who there is, which keys there are, what was done to them; and whether that log is whole."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData

from morphogen.core.errors import RecordsError
from morphogen.records.roles import ROLES
from morphogen.serve.errors import APIError
from morphogen.serve.studio.page import Page, moved, page
from morphogen.serve.studio.visitor import Administers, Visitor

DAY = 86400.0
LINES = 200

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/people")
async def people(request: Request, visitor: Administers) -> Response:
    """Everyone, and every key."""
    return await _people(request, visitor)


@router.post("/people")
async def changed(request: Request, visitor: Administers) -> Response:
    """Add a person, or change one; make a key, or revoke one."""
    form = await request.form()
    deeds = {"add": _add, "change": _change, "key": _new_key, "revoke": _revoke}
    deed = deeds.get(_word(form, "deed"))
    if deed is None:
        raise APIError(400, "there is no such deed")
    try:
        word = await visitor.here.record(_within, deed, visitor, form)
    except _Refused as refused:
        return await _people(request, visitor, failed=str(refused), status=400)
    if word is not None:
        return await _people(request, visitor, secret=word)
    return moved("/people")


@router.get("/audit")
async def audit(request: Request, visitor: Administers) -> Response:
    """What was done to people, keys and records, and whether the log is whole."""
    kept = visitor.here.records.audit
    verdict = await asyncio.to_thread(kept.verify)
    lines = await asyncio.to_thread(kept.lines, limit=LINES)
    everyone = await asyncio.to_thread(visitor.here.records.users.all)
    names = {each.id: each.name for each in everyone}
    return page(request, visitor, "audit", verdict=verdict, lines=lines, names=names)


class _Refused(Exception):
    """What the records do not do; not that they cannot be written."""


def _within(deed: Any, visitor: Visitor, form: FormData) -> str | None:
    try:
        word: str | None = deed(visitor, form)
    except RecordsError as error:
        raise _Refused(error.message) from error
    except ValueError as error:
        raise _Refused(f"that is no number: {error}") from error
    return word


async def _people(
    request: Request, visitor: Visitor, *, status: int = 200, secret: str | None = None,
    failed: str | None = None,
) -> Response:  # fmt: skip
    records = visitor.here.records
    everyone = await asyncio.to_thread(records.users.all)
    keys = await asyncio.to_thread(records.keys.all)
    return page(
        request, visitor, "people", status=status, everyone=everyone, keys=keys, roles=list(ROLES),
        secret=secret, failed=failed,
    )  # fmt: skip


def _add(visitor: Visitor, form: FormData) -> None:
    visitor.here.records.users.add(
        _word(form, "name"), _word(form, "role"), password=_word(form, "password") or None,
        by=_by(visitor),
    )  # fmt: skip


def _change(visitor: Visitor, form: FormData) -> None:
    users, who = visitor.here.records.users, int(_word(form, "who"))
    known = users.get(who)
    state, role, password = (_word(form, name) for name in ("state", "role", "password"))
    if who == _by(visitor) and (state == "disabled" or (role and role != known.role)):
        raise RecordsError("nobody takes their own rights away: another administrator can")
    if role and role != known.role:
        users.set_role(who, role, by=_by(visitor))
    groups = _word(form, "groups").split()
    if "groups" in form and groups != list(known.groups):
        users.set_groups(who, groups, by=_by(visitor))
    if password:
        users.set_password(who, password, by=_by(visitor))
    if state and state != known.state:
        deed = users.enable if state == "active" else users.disable
        deed(who, by=_by(visitor))


def _new_key(visitor: Visitor, form: FormData) -> str:
    days, name = _word(form, "days"), _word(form, "name").strip()
    if not name:
        raise RecordsError("a key has a name")
    expires = float(days) * DAY if days else None
    _, word = visitor.here.records.keys.new(
        name, _word(form, "role"), user=_by(visitor), expires=expires, by=_by(visitor)
    )
    return str(word)


def _revoke(visitor: Visitor, form: FormData) -> None:
    visitor.here.records.keys.revoke(int(_word(form, "key")), by=_by(visitor))


def _by(visitor: Visitor) -> int:
    return visitor.check("administer").user.id


def _word(form: FormData, name: str) -> str:
    return str(form.get(name, ""))
