"""`/v1/vector_stores`: indexes of documents, as OpenAI's clients know them; and what they answer.

Whoever asks is a member of groups, and sees of an index what these may read and nothing else: not
in a list, a count, an order or a score.
"""

from __future__ import annotations

import asyncio
import glob
from collections.abc import Mapping
from contextlib import closing
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from morphogen.serve.answer import while_connected
from morphogen.serve.catalogue import Entry
from morphogen.serve.door import Generates, Reads
from morphogen.serve.errors import APIError
from morphogen.serve.grounds import groups_of
from morphogen.serve.indexes import name_of
from morphogen.serve.routes._grounded import begun, most_of
from morphogen.serve.routes._works import result_of, worked
from morphogen.serve.routes.chat import ChatAnswer, ChatRequest
from morphogen.serve.serving import Here, Serving

MOST = 50  # passages, as OpenAI has it
MOST_LETTERS = 10_000  # of a question

router = APIRouter()
Words = Annotated[str, Field(min_length=1, max_length=MOST_LETTERS)]


class SearchRequest(BaseModel):
    """What is looked for."""

    model_config = ConfigDict(extra="allow")

    query: Words | Annotated[list[Words], Field(min_length=1, max_length=1)]
    max_num_results: int = Field(10, ge=1, le=MOST)
    filters: dict[str, Any] | None = None


class AskRequest(BaseModel):
    """What is asked, and who writes the answer: a model, or none, which quotes."""

    model_config = ConfigDict(extra="forbid")

    question: Words
    model: str | None = None
    num: int = Field(5, ge=1, le=MOST, description="passages")
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)


@router.get("/v1/vector_stores")
async def indexes(here: Here, access: Reads) -> dict[str, Any]:
    """Every index in the folder."""

    def read() -> list[dict[str, Any]]:
        return [_told(each, groups_of(access)) for each in here.indexes.entries().values()]

    told = await asyncio.to_thread(read)
    first, last = (told[0]["id"], told[-1]["id"]) if told else (None, None)
    return {"object": "list", "data": told, "first_id": first, "last_id": last, "has_more": False}


@router.get("/v1/vector_stores/{name}")
async def index(name: str, here: Here, access: Reads) -> dict[str, Any]:
    """One of them."""
    return await asyncio.to_thread(lambda: _told(here.indexes.find(name), groups_of(access)))


@router.post("/v1/vector_stores/{name}/search")
async def search(
    name: str, asked: SearchRequest, request: Request, here: Here, access: Generates
) -> Response:
    """Passages, best first, with where they stand and why they were found."""
    entry = await asyncio.to_thread(here.indexes.find, name)
    query = asked.query if isinstance(asked.query, str) else asked.query[0]
    work = {"do": "search", "question": query, "num": asked.max_num_results,
            "groups": groups_of(access), "where": where_of(asked.filters)}  # fmt: skip
    answer, events = await worked(here, request, entry, work, prompt=query, access=access)
    told = [_hit(each) for each in result_of(events)["hits"]]
    body = {"object": "vector_store.search_results.page", "search_query": [query], "data": told,
            "has_more": False, "next_page": None, "morphogen": answer.about()}  # fmt: skip
    return JSONResponse(body, headers=answer.headers())


@router.post("/v1/vector_stores/{name}/ask")
async def ask(
    name: str, asked: AskRequest, request: Request, here: Here, access: Generates
) -> Response:
    """What the documents say to a question, each sentence with its source; or that they do not."""
    entry = await asyncio.to_thread(here.indexes.find, name)
    answering, told = await answered(
        here, request, entry, asked.question, asked.model, access=access,
        num_passages=asked.num, seed=asked.seed,
    )  # fmt: skip
    answer, grounds = answering.answer, answering.stands_on
    message, about = told["choices"][0]["message"], told["morphogen"]
    body = {
        "question": asked.question, "answer": message["content"],
        "is_silent": grounds.found["is_silent"], "verdicts": about.pop("verdicts")[0],
        "unsupported": about.pop("unsupported")[0],
        "passages": [_hit(each) for each in grounds.hits], "morphogen": about,
    }  # fmt: skip
    return JSONResponse(body, headers=answer.headers())


async def answered(
    here: Serving,
    request: Request,
    entry: Entry,
    question: str,
    model: str | None,
    *,
    access: Any,
    **told: Any,
) -> tuple[ChatAnswer, dict[str, Any]]:
    """What an index answers to a question, or what a model writes from its passages, and the same
    as `/v1/chat/completions` tells it. Raises `APIError`."""
    chat = ChatRequest.model_validate({
        "model": model or entry.name, "index": name_of(entry), "temperature": 0,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": await most_of(here, model), **told,
    })  # fmt: skip
    answer, grounds = await begun(here, chat, access)
    answering = ChatAnswer(answer, chat, grounds)
    async with answer:
        return answering, await while_connected(request, answering.whole())


def where_of(filters: dict[str, Any] | None) -> dict[str, Any]:
    """The filter of a request as that of a search: facts of documents that are so, "filename" the
    place of one, "place" a pattern of several. Raises `APIError` for others."""
    if not filters:
        return {}
    told = filters.get("filters") if filters.get("type") == "and" else [filters]
    parts: list[Any] = told if isinstance(told, list) else [None]
    facts: dict[str, Any] = {}
    for part in parts:
        value = part.get("value") if isinstance(part, dict) and part.get("type") == "eq" else None
        if not isinstance(value, (str, int, float, bool)):
            raise APIError(400, 'a filter is {"type": "eq", "key": .., "value": ..}, or "and"',
                           param="filters", code="unsupported_filter")  # fmt: skip
        facts[str(part.get("key"))] = value
    place, name = facts.pop("place", None), facts.pop("filename", None)
    if name is not None:
        place = glob.escape(str(name))
    return {"facts": facts, **({} if place is None else {"place": str(place)})}


def _told(entry: Entry, groups: list[str]) -> dict[str, Any]:
    """An index as whoever asks sees it."""
    from morphogen.systems.knowledge import stores

    with closing(stores.opened(entry.path)) as store:
        documents, size = store.counted(groups)
        about = store.about
    counts = dict.fromkeys(("in_progress", "failed", "cancelled"), 0)
    more = {"embedder": about["embedder"]["name"], "language": about["language"]}
    return {
        "id": name_of(entry), "object": "vector_store", "name": name_of(entry),
        "created_at": entry.changed // 10**9, "status": "completed", "usage_bytes": size,
        "file_counts": {**counts, "completed": documents, "total": documents},
        "last_active_at": None, "metadata": {}, "morphogen": more,
    }  # fmt: skip


def _hit(hit: Mapping[str, Any]) -> dict[str, Any]:
    """A passage as OpenAI's clients know it; the rest of what is known of it beside that."""
    own = {name: hit[name] for name in ("title", "heading", "page", "start", "end", "why")}
    return {
        "file_id": hit["place"], "filename": hit["place"], "score": hit["score"], "attributes": {},
        "content": [{"type": "text", "text": hit["text"]}], "morphogen": own,
    }  # fmt: skip
