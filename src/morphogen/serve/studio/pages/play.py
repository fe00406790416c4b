"""The playground: conversations with models that write, and every task of any model."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from morphogen.serve.catalogue import Entry
from morphogen.serve.engine.running import Running
from morphogen.serve.errors import APIError
from morphogen.serve.forms import filled, written
from morphogen.serve.grounds import UNSUPPORTED, recorded
from morphogen.serve.parts import each_part
from morphogen.serve.routes._asked import Drawn
from morphogen.serve.routes._works import result_of, said_in, seeded, worked
from morphogen.serve.studio import asking, conversation
from morphogen.serve.studio.kept import Drawing, Given, Kept, Made, files_in, kept_of, shown_first
from morphogen.serve.studio.page import Page, page, view
from morphogen.serve.studio.pages.voice import of_chats
from morphogen.serve.studio.visitor import Generates, Reads, Visitor

TALK, DRAW, FILL = "talk", "generate", "fill"
# Tasks that have a page of their own; all others share one.
PAGES = {
    "interpolate": "between", "traverse": "plane", FILL: "paint", "transcribe": "listen"
}  # fmt: skip
SHOWN_TO = {"image", "sound"}  # kinds of conditions that are brought as files
BEFORE = 12  # earlier ones that a page shows
ONE_BY_ONE = {"interpolate"}  # tasks whose items are looked at one after the other
FILLED_ANYWAY = {"mask": "auto"}  # of items that may have gaps, also where none has one

router = APIRouter(route_class=Page, include_in_schema=False)


@dataclass(frozen=True)
class Shown:
    """What a playground shows: a model that is open, and one of the things that it can do."""

    entry: Entry
    process: Running
    task: str
    values: Mapping[str, str]  # of the form, as the address tells them

    @property
    def about(self) -> Mapping[str, Any]:
        """What is known of the model."""
        return self.process.about

    def facts(self) -> dict[str, Any]:
        """For the template."""
        tasks = self.about.get("tasks", {})
        can = [TALK] * writes(self.about) + [n for n, reason in tasks.items() if reason is None]
        return {
            "entry": self.entry, "about": self.about, "task": self.task, "values": self.values,
            "can": can, "cannot": {name: why for name, why in tasks.items() if why is not None},
        }  # fmt: skip

    def form(self) -> dict[str, Any]:
        """The form of a task. Raises `APIError` for one that does not apply."""
        tasks = self.about.get("tasks", {})
        if tasks.get(self.task, "there is no such task") is not None:
            why = tasks.get(self.task, "there is no such task")
            raise APIError(404, f"{self.entry.name} does not {self.task}: {why}")
        form = self.about["forms"][self.task]
        proposed = FILLED_ANYWAY if self.task == FILL and self.about.get("gap") else {}
        return {
            "fields": filled(form["fields"], {**proposed, **self.values}),
            "conditions": self.about.get("conditions", {}),
            "takes_inputs": form["takes_inputs"],
            "works_on": [
                name for name, each in self.about["forms"].items()
                if each["takes_inputs"] and tasks.get(name, "") is None
            ],
        }  # fmt: skip


@router.get("/play/{name:path}")
async def play(name: str, request: Request, visitor: Generates, open: bool = False) -> Response:
    """A model's playground; one that is closed is opened by the page itself, which says so."""
    here, entry = visitor.here, visitor.here.entry(name)
    running = here.pool.open.get(entry.name)
    if not open and (running is None or not running.is_alive):
        query = {**request.query_params, "open": "true"}
        return page(request, visitor, "opening", entry=entry, query=query)
    process = await here.pool.get(entry)
    values = dict(request.query_params)
    shown = Shown(entry, process, values.get("task") or usual(process.about), values)
    if shown.task == TALK:
        return await _talk(request, visitor, shown)
    facts = {**shown.facts(), **shown.form()}
    kept = kept_of(request)
    return page(
        request, visitor, PAGES.get(shown.task, "draw"), **facts, made=None,
        like=_like(kept, values), before=_before(kept, shown, visitor),
    )  # fmt: skip


@router.post("/play/{name:path}")
async def make(name: str, request: Request, visitor: Generates) -> Response:
    """Run a task as its form says, and show what came."""
    here, entry, form = visitor.here, visitor.here.entry(name), await request.form()
    kept, told = kept_of(request), asking.words_of(form)
    shown = Shown(entry, await here.pool.get(entry), told.get("task", DRAW), told)
    facts = shown.form()
    sent = await asking.conditions_sent(form, facts["conditions"])
    if of := told.get("of"):  # the same once more, with the pictures that it belonged to
        sent = {**kept.get(of).cond, **sent}
    work: dict[str, Any] = {
        "do": "generate" if shown.task == DRAW else "task",
        "seed": seeded(asking.number(told.get("seed", ""))),
        "view": "each" if shown.task in ONE_BY_ONE else "whole",
        "cond": {**asking.conditions_of(told, facts["conditions"]), **sent},
        "options": written(facts["fields"]),
    }
    inputs: list[Given] = []
    if shown.task != DRAW:
        inputs = await asking.inputs_of(here, entry, form, kept, work["cond"])
        work |= {"task": shown.task, "inputs": inputs}
        work |= {"drawn": told["drawn"]} if told.get("drawn") else {}
        work["hidden"] = await asking.hidden_of(form, kept)
    answer, events = await worked(
        here, request, entry, work, prompt=said_in(inputs), access=visitor.access
    )
    result = result_of(events)
    pages = tuple(result.pop("pages", None) or filter(None, [result.pop("html", "")]))
    drawing = Drawing(entry.name, _number(visitor), told, seed=work["seed"])
    made_now = Made(pages, tuple(result["items"]), tuple(inputs), work.get("hidden"), drawing, sent)
    kept.put(answer.id, made_now)
    made = {
        "id": answer.id, "seed": work["seed"], "pages": len(pages), "items": len(result["items"]),
        "result": result, "files": files_in(result["items"]),
    }  # fmt: skip
    return page(
        request, visitor, PAGES.get(shown.task, "draw"), **shown.facts(), **facts, made=made,
        like=_like(kept, told), before=_before(kept, shown, visitor, answer.id),
    )  # fmt: skip


@router.get("/views/{uid}")
async def viewed(uid: str, request: Request, visitor: Reads, n: int = 0) -> Response:
    """Items as their codec shows them."""
    return view(kept_of(request).page(uid, n), "Items")


@router.get("/files/{uid}/{n}")
async def file(uid: str, n: int, request: Request, visitor: Reads, part: str = "") -> Response:
    """An item, or a part of one, as the file that it was made as, with its marks."""
    made: Mapping[str, Any] = each_part(kept_of(request).item(uid, n)).get(part, {})
    if "file" not in made:
        raise APIError(404, "there is no such file")
    name = "-".join(filter(None, [uid, str(n), part])) + made["suffix"]
    told = {"content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    return Response(b64decode(made["file"]), media_type=made["media_type"], headers=told)


@router.get("/warm/{name:path}")
async def warm(name: str, request: Request, visitor: Generates) -> Response:
    """Wait until a model answers at once."""
    entry = visitor.here.entry(name)
    process = await visitor.here.pool.get(entry)
    await process.warmed()
    return page(request, visitor, "warm", entry=entry, is_warm=process.is_warm)


async def _talk(request: Request, visitor: Visitor, shown: Shown) -> Response:
    here, values = visitor.here, shown.values
    records = here.records

    def read() -> tuple[
        list[conversation.Turn], list[int], dict[str, list[dict[str, Any]]], list[str]
    ]:
        others = conversation.roots(records, values.get("beside", ""))
        node = asking.number(values.get("at", ""))
        if values.get("of"):
            node = conversation.node_of(records, values["of"])
        elif node is not None and values.get("branch"):
            node = conversation.end_of(records, node)
        said = [] if node is None else conversation.turns(records, node, others)
        thought = records.annotations.of_all([turn.generation for turn in said if turn.generation])
        cited = {uid: recorded(UNSUPPORTED, each) for uid, each in thought.items()}
        return said, others, cited, list(here.indexes.entries())

    turns, others, cited, indexes = await asyncio.to_thread(read)
    if not shown.process.is_warm:
        shown.process.begin_to_warm()
    fields = shown.about.get("forms", {}).get(TALK, {"fields": ()})["fields"]
    settings = filled([each for each in fields if each["name"] in Drawn.model_fields], values)
    return page(
        request, visitor, "talk", **shown.facts(), turns=turns, others=others, settings=settings,
        is_warm=shown.process.is_warm, cited=cited, indexes=indexes, voices=await of_chats(here),
    )  # fmt: skip


def writes(about: Mapping[str, Any]) -> bool:
    """Whether a model writes texts, so that one can talk with it, or have it go on."""
    return "context_length" in about or bool(about.get("chats"))


def usual(about: Mapping[str, Any]) -> str:
    """What a model is looked at for first: that it writes, or draws, or whatever else it can do."""
    tasks = about.get("tasks", {})
    able = [name for name in (DRAW, *tasks) if tasks.get(name, "") is None]
    is_told = not SHOWN_TO.isdisjoint(map(str, about.get("conditions", {}).values()))
    return TALK if writes(about) and not is_told else next(iter(able), DRAW)


def _before(
    kept: Kept, shown: Shown, visitor: Visitor, but: str | None = None
) -> list[dict[str, Any]]:
    """What this visitor had this model draw of late, the newest first: the first item of each, what
    was asked for, and the form that makes it again."""
    found = []
    for uid, made in reversed(kept.made.items()):
        own = made.drawing
        if own is None or uid == but or (own.model, own.by) != (shown.entry.name, _number(visitor)):
            continue
        again = {k: v for k, v in own.told.items() if v and k not in ("of", "open")}
        said = ", ".join(v for k, v in again.items() if k.startswith("cond.") or k == "text")
        found.append({
            "uid": uid, "item": shown_first(made.items), "seed": own.seed,
            "said": said or own.told.get("task", DRAW), "again": {**again, "seed": own.seed},
        })  # fmt: skip
    return found[:BEFORE]


def _number(visitor: Visitor) -> int | None:
    return None if visitor.access is None else visitor.access.user.id


def _like(kept: Kept, told: Mapping[str, str]) -> dict[str, Any] | None:
    """The item of an earlier answer that a task is to work on, as the page shows it."""
    uid = told.get("like", "")
    if not uid:
        return None
    number = asking.number(told.get("item", "")) or 1
    return {"of": uid, "item": number, "given": kept.item(uid, number)}
