"""The playground: conversations with models that write, and every task of any model."""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData, UploadFile

from morphogen.serve.catalogue import Entry
from morphogen.serve.errors import APIError
from morphogen.serve.forms import filled, written
from morphogen.serve.routes._asked import Drawn
from morphogen.serve.routes._works import seeded, worked
from morphogen.serve.studio import conversation
from morphogen.serve.studio.page import Page, page, view
from morphogen.serve.studio.visitor import Generates, Reads, Visitor

TALK, DRAW = "talk", "generate"
VIEWS = 64  # results that are kept to be looked at; each can be made again by its seed

router = APIRouter(route_class=Page, include_in_schema=False)


@dataclass(frozen=True)
class Shown:
    """What a playground shows: a model that is open, and one of the things that it can do."""

    entry: Entry
    about: Mapping[str, Any]
    task: str
    values: Mapping[str, str]  # of the form, as the address tells them

    def facts(self) -> dict[str, Any]:
        """For the template."""
        tasks = self.about.get("tasks", {})
        can = ([TALK] if "context_length" in self.about else []) + [
            name for name, reason in tasks.items() if reason is None
        ]
        return {
            "entry": self.entry, "about": self.about, "task": self.task, "values": self.values,
            "can": can, "cannot": {name: why for name, why in tasks.items() if why is not None},
        }  # fmt: skip


@router.get("/play/{name:path}")
async def play(name: str, request: Request, visitor: Generates, open: bool = False) -> Response:
    """A model's playground; one that is closed is opened by the page itself, which says so."""
    here, entry = visitor.here, visitor.here.entry(name)
    process = here.pool.open.get(entry.name)
    if not open and (process is None or not process.is_alive):
        query = {**request.query_params, "open": "true"}
        return page(request, visitor, "opening", entry=entry, query=query)
    about = (await here.pool.get(entry)).about
    values = dict(request.query_params)
    usual = TALK if "context_length" in about else DRAW
    shown = Shown(entry, about, values.get("task", usual), values)
    if shown.task == TALK:
        return await _talk(request, visitor, shown)
    return page(request, visitor, "draw", **shown.facts(), **_form(shown), made=None)


@router.post("/play/{name:path}")
async def make(name: str, request: Request, visitor: Generates) -> Response:
    """Run a task as its form says, and show what came."""
    entry, form = visitor.here.entry(name), await request.form()
    about = (await visitor.here.pool.get(entry)).about
    told = {key: value for key, value in form.items() if isinstance(value, str) and key != "token"}
    shown = Shown(entry, about, told.get("task", DRAW), told)
    facts = _form(shown)
    seed = _number(told.get("seed", ""))
    work: dict[str, Any] = {
        "do": "generate" if shown.task == DRAW else "task", "seed": seeded(seed), "view": True,
        "cond": {name: told[f"cond.{name}"] for name in facts["conditions"]
                 if told.get(f"cond.{name}")},
        "options": written(facts["fields"]),
    }  # fmt: skip
    if shown.task != DRAW:
        work |= {"task": shown.task, "inputs": await _inputs(form)}
    prompt = told.get("text", "")
    answer, events = await worked(
        visitor.here, request, entry, work, prompt=prompt, access=visitor.access
    )
    result = next(event["result"] for event in events if "result" in event)
    if body := result.pop("html", None):
        keep_view(request, answer.id, body)
    made = {"id": answer.id, "seed": work["seed"], "viewed": body is not None, "result": result}
    return page(request, visitor, "draw", **shown.facts(), **facts, made=made)


@router.get("/views/{uid}")
async def viewed(uid: str, request: Request, visitor: Reads) -> Response:
    """Items as their codec shows them."""
    views = _views(request)
    if uid not in views:
        raise APIError(404, "it is not kept any longer: the same seed makes it again")
    return view(views[uid], "Items")


def keep_view(request: Request, name: str, body: str) -> None:
    """Have HTML of items at `/views/NAME` for a while."""
    views = _views(request)
    views.pop(name, None)
    views[name] = body
    while len(views) > VIEWS:
        views.popitem(last=False)


def _views(request: Request) -> OrderedDict[str, str]:
    """HTML of items by generation, oldest first."""
    state = request.app.state
    if not hasattr(state, "views"):
        state.views = OrderedDict()
    found: OrderedDict[str, str] = state.views
    return found


async def _talk(request: Request, visitor: Visitor, shown: Shown) -> Response:
    records, values = visitor.here.records, shown.values

    def read() -> tuple[list[conversation.Turn], list[int]]:
        others = conversation.roots(records, values.get("beside", ""))
        node = _number(values.get("at", ""))
        if values.get("of"):
            node = conversation.node_of(records, values["of"])
        elif node is not None and values.get("branch"):
            node = conversation.end_of(records, node)
        return ([] if node is None else conversation.turns(records, node, others)), others

    turns, others = await asyncio.to_thread(read)
    fields = shown.about["forms"][TALK]["fields"]
    settings = filled([each for each in fields if each["name"] in Drawn.model_fields], values)
    return page(
        request, visitor, "talk", **shown.facts(), turns=turns, others=others, settings=settings,
    )  # fmt: skip


def _form(shown: Shown) -> dict[str, Any]:
    """The form of a task. Raises `APIError` for one that does not apply."""
    tasks = shown.about.get("tasks", {})
    if tasks.get(shown.task, "there is no such task") is not None:
        why = tasks.get(shown.task, "there is no such task")
        raise APIError(404, f"{shown.entry.name} does not {shown.task}: {why}")
    form = shown.about["forms"][shown.task]
    return {
        "fields": filled(form["fields"], shown.values),
        "conditions": shown.about.get("conditions", {}),
        "takes_inputs": form["takes_inputs"],
    }


async def _inputs(form: FormData) -> list[dict[str, str]]:
    """What a task works on: files, or a text."""
    found = []
    for each in form.getlist("files"):
        if isinstance(each, UploadFile) and each.filename:
            data = base64.b64encode(await each.read()).decode()
            found.append({"file": data, "suffix": PurePath(each.filename).suffix.lower()})
    text = form.get("text")
    return found or ([{"text": text}] if isinstance(text, str) and text else [])


def _number(word: str) -> int | None:
    """A whole number, or none. Raises `APIError` for another word."""
    try:
        return int(word) if word else None
    except ValueError:
        raise APIError(400, f"{word[:40]!r} is no whole number") from None
