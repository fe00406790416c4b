"""Indexes of documents: searched, asked, and a source opened at the place that is cited."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from morphogen.serve.catalogue import Entry, read_json
from morphogen.serve.errors import APIError
from morphogen.serve.grounds import groups_of, href
from morphogen.serve.indexes import ABOUT, name_of
from morphogen.serve.routes._works import result_of, worked
from morphogen.serve.routes.vector_stores import answered
from morphogen.serve.studio.page import Page, page
from morphogen.serve.studio.visitor import Generates, Reads, Visitor

SHOWN = 10  # passages
MOST_SOURCE = 200_000  # letters of a document on a page: those around what is cited
WAYS = ("both", "words", "meaning")

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/indexes")
async def indexes(request: Request, visitor: Reads) -> Response:
    """Every index in the folder."""
    here = visitor.here
    entries = await asyncio.to_thread(here.indexes.entries)
    shown = [(name, _by(entry)) for name, entry in entries.items()]
    return page(request, visitor, "indexes", folder=here.settings.indexes, shown=shown)


@router.get("/indexes/{name}")
async def index(name: str, request: Request, visitor: Reads) -> Response:
    """What can be asked of it."""
    return await _index(request, visitor, await _entry(visitor, name))


@router.post("/indexes/{name}")
async def ask(name: str, request: Request, visitor: Generates) -> Response:
    """Search it, or have it answer."""
    entry, form = await _entry(visitor, name), await request.form()
    told = {key: str(form.get(key, "")) for key in ("question", "deed", "by", "place", "model")}
    if not told["question"].strip():
        raise APIError(400, "the question is empty: ask with words")
    deed = {"search": _search, "ask": _ask}.get(told["deed"])
    if deed is None:
        raise APIError(400, "there is no such deed")
    found = await deed(request, visitor, entry, told)
    return await _index(request, visitor, entry, told, **found)


@router.get("/indexes/{name}/documents")
async def documents(name: str, request: Request, visitor: Reads) -> Response:
    """Those that the visitor may read."""
    entry = await _entry(visitor, name)
    found = await _told(visitor, entry, {"do": "documents"})
    listed = [(each, href(name, each["place"], 0, 0)) for each in found["documents"]]
    return page(request, visitor, "index_documents", entry=entry, name=name, listed=listed)


@router.get("/indexes/{name}/source")
async def source(
    name: str, place: str, request: Request, visitor: Reads, *, start: int = 0, end: int = 0
) -> Response:
    """The text of a document, with a stretch of it marked."""
    entry = await _entry(visitor, name)
    found = await _told(visitor, entry, {"do": "source", "place": place})
    text, parts = found["text"], found["parts"]
    start = min(max(start, 0), len(text))
    end = min(max(end, start), len(text))
    first = max(min(start - MOST_SOURCE // 2, len(text) - MOST_SOURCE), 0)
    last = min(first + MOST_SOURCE, len(text))
    facts: dict[str, Any] = {
        "title": parts[0]["title"] if parts else place, "place": place, "num": len(text),
        "stretches": stretches(text, parts, (start, end), (first, last)), "start": start,
        "end": end, "first": first, "last": last,
    }  # fmt: skip
    return page(request, visitor, "source", entry=entry, name=name, **facts)


def stretches(
    text: str,
    parts: list[dict[str, Any]],
    mark: tuple[int, int],
    seen: tuple[int, int],
) -> list[dict[str, Any]]:
    """What is seen of a text in the parts that it was cut into, each with its headings and page
    where these change, and its letters before, in and after what is marked."""
    first, last = seen
    edges = sorted({first, *(p["start"] for p in parts if first < p["start"] < last)})
    named = {each["start"]: each for each in parts}
    found: list[dict[str, Any]] = []
    above = None
    for at, after in zip(edges, [*edges[1:], last], strict=True):
        part = named.get(at) or {"heading": [], "page": None}
        here = (part["page"], " > ".join(part["heading"]))
        low, high = (min(max(each, at), after) for each in mark)
        told: dict[str, Any] = {
            "before": text[at:low], "marked": text[low:high], "after": text[high:after],
        }  # fmt: skip
        told |= {"page": here[0], "heading": here[1], "is_new": here != above}
        is_first = low < high and not any(each["marked"] for each in found)
        found.append({**told, "is_first": is_first})
        above = here
    return found


async def _entry(visitor: Visitor, name: str) -> Entry:
    return await asyncio.to_thread(visitor.here.indexes.find, name)


async def _index(
    request: Request, visitor: Visitor, entry: Entry, told: dict[str, str] | None = None,
    **found: Any,
) -> Response:  # fmt: skip
    known = await asyncio.to_thread(visitor.here.catalogue.entries)
    models = [
        each.name for each in known.values()
        if each.kind == "remote" or each.modality in ("text", None)
    ]  # fmt: skip
    facts = {"told": told or {}, "models": models, "ways": WAYS, "by": _by(entry)}
    blank: dict[str, Any] = {"hits": None, "answer": None}
    return page(request, visitor, "index", entry=entry, name=name_of(entry),
                **{**facts, **blank, **found})  # fmt: skip


async def _search(
    request: Request, visitor: Visitor, entry: Entry, told: dict[str, str]
) -> dict[str, Any]:
    if told["by"] not in WAYS:
        raise APIError(400, "there is no such way to compare")
    where = {"place": told["place"]} if told["place"] else {}
    work = {"do": "search", "question": told["question"], "num": SHOWN, "by": told["by"],
            "where": where, "groups": groups_of(visitor.access)}  # fmt: skip
    answer, events = await worked(
        visitor.here, request, entry, work, prompt=told["question"], access=visitor.access
    )
    hits = [_with_href(entry, each) for each in result_of(events)["hits"]]
    return {"hits": hits, "answer": None, "of": answer.id}


async def _ask(
    request: Request, visitor: Visitor, entry: Entry, told: dict[str, str]
) -> dict[str, Any]:
    answering, _ = await answered(
        visitor.here, request, entry, told["question"], told["model"] or None,
        access=visitor.access,
    )  # fmt: skip
    answer, grounds = answering.answer, answering.stands_on
    hits = [_with_href(entry, each) for each in grounds.hits]
    judged = answering.judged[0]
    made = {"text": answering.texts[0], "verdicts": judged.verdicts, "by": answer.entry.name,
            "unsupported": judged.unsupported, "is_silent": grounds.found["is_silent"]}  # fmt: skip
    return {"hits": hits, "answer": made, "of": answer.id}


async def _told(visitor: Visitor, entry: Entry, work: dict[str, Any]) -> dict[str, Any]:
    """What an index tells of itself, which is not recorded as a generation."""
    process = await visitor.here.pool.get(entry)
    asked = await process.ask({**work, "groups": groups_of(visitor.access)})
    return result_of([event async for event in asked])


def _with_href(entry: Entry, hit: Any) -> dict[str, Any]:
    return {**hit, "href": href(name_of(entry), hit["place"], hit["start"], hit["end"])}


def _by(entry: Entry) -> str:
    """How it is searched, as its folder tells; of one in a database nothing is asked for that."""
    by = (read_json(entry.path / ABOUT).get("embedder") or {}).get("name")
    if by is None:
        return "words and meaning, in a database"
    return "words alone" if by == "words" else f"words and meaning, by {by}"
