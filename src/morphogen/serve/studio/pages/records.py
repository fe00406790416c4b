"""What was asked and answered: found by words and filters, looked at, rated one after the other."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request, Response

from morphogen.records.generation import Generation
from morphogen.records.searching import Filters
from morphogen.serve.errors import APIError
from morphogen.serve.grounds import FOUND, TRACE, UNSUPPORTED, may_see, recorded, trace_of
from morphogen.serve.studio.page import Page, moved, page
from morphogen.serve.studio.visitor import Annotates, Reads, Visitor

SHOWN = 30  # of a page
DAY = 86400.0
SINCE = {"1": "a day", "7": "a week", "30": "a month"}
NAMES = ("text", "model", "task", "state", "rated", "since")
RATED = ("none", *map(str, range(1, 6)))
STATES = ("finished", "cut", "started")

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/records")
async def found(request: Request, visitor: Reads, before: int | None = None) -> Response:
    """A page of them, newest first."""
    told = _told(request)
    kept = await asyncio.to_thread(_find, visitor, told, before, SHOWN)
    last = kept[-1].number if len(kept) == SHOWN else None
    seen = [each for each in kept if may_see(each, visitor.access)]
    entries = await asyncio.to_thread(visitor.here.catalogue.entries)
    return page(
        request, visitor, "records", kept=seen, told=told, last=last, since=SINCE, states=STATES,
        entries=list(entries),
    )  # fmt: skip


@router.get("/records/{uid}")
async def one(uid: str, request: Request, visitor: Reads) -> Response:
    """A generation: what was asked, what came, where it is from, what is thought of it."""
    records = visitor.here.records
    told = _told(request)

    def read() -> tuple[Generation, Generation | None, list[Any]]:
        kept = records.generations.get(uid)
        if not may_see(kept, visitor.access):
            raise APIError(403, "it stands on documents that you may not read")
        older = _find(visitor, told, kept.number, SHOWN)
        rest = [each for each in older if may_see(each, visitor.access)]
        judged = records.models.evaluations(kept.model_id) if kept.model_id else []
        return kept, (rest[0] if rest else None), judged

    kept, after, judged = await asyncio.to_thread(read)
    own = None if visitor.access is None else visitor.access.user.name
    mine = [a for a in kept.annotations if a.name == "rating" and a.user == own]
    return page(
        request, visitor, "generation", kept=kept, after=after, again=_again(kept), told=told,
        judged=judged, mine=mine[-1] if mine else None, found=recorded(FOUND, kept.annotations),
        verdicts=recorded(UNSUPPORTED, kept.annotations), machine=(FOUND, UNSUPPORTED, TRACE),
        steps=trace_of(kept.annotations),
    )  # fmt: skip


@router.post("/records/{uid}")
async def rated(uid: str, request: Request, visitor: Annotates) -> Response:
    """Say what is thought of it, and go to the next, or stay."""
    form = await request.form()
    word, said = str(form.get("value", "")), str(form.get("explanation", ""))
    if word not in RATED[1:]:
        raise APIError(400, f"a rating is 1 to 5, not {word[:40]!r}")
    access = visitor.check("annotate")
    await visitor.here.record(
        visitor.here.records.annotations.add, uid, value=float(word), explanation=said,
        user=access.user.id,
    )  # fmt: skip
    after = str(form.get("after", ""))
    return moved(f"/records/{after if after.isalnum() else uid}", **_told(request))


def _again(kept: Generation) -> dict[str, Any]:
    """The form that makes it again."""
    told, cond = (kept.parameters.get(name) or {} for name in ("options", "cond"))
    task = "generate" if kept.task == "generate" else kept.parameters.get("task", kept.task)
    conds = {f"cond.{name}": value for name, value in cond.items()}
    return {"task": task, "seed": kept.seed, **told, **conds}


def _told(request: Request) -> dict[str, str]:
    """What was filtered by."""
    query = request.query_params
    return {name: query[name] for name in NAMES if query.get(name)}


def _find(
    visitor: Visitor, told: dict[str, str], before: int | None, limit: int
) -> list[Generation]:
    rated = told.get("rated", "")
    if (rated and rated not in RATED[1:]) or told.get("since", "1") not in SINCE:
        raise APIError(400, "there is no such filter")
    filters = Filters(
        model=told.get("model"), task=told.get("task"), state=told.get("state"),
        since=time.time() - DAY * int(told["since"]) if "since" in told else None,
        at_least=float(rated) if rated else None,
    )  # fmt: skip
    search = visitor.here.records.search
    kept: list[Generation] = search(told.get("text", ""), filters, limit=limit, before=before)
    return kept
