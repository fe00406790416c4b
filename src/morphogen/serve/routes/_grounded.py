"""Answers from documents, as the routes of conversations give them."""

from __future__ import annotations

import asyncio
from typing import Any

from morphogen.serve import grounds as grounding
from morphogen.serve.agents import ROOT as AGENTS
from morphogen.serve.answer import Answer
from morphogen.serve.errors import APIError
from morphogen.serve.grounds import Grounds, Judged
from morphogen.serve.indexes import ROOT
from morphogen.serve.serving import Serving

MOST_TOKENS = 512  # of an answer, where who asks says nothing of that
SEARCH = "file_search"  # the tool of `/v1/responses` that looks into indexes
RESULTS = "file_search_call.results"  # what a request asks to be told of it


async def begun(here: Serving, asked: Any, access: Any) -> tuple[Answer, Grounds | None]:
    """An answer to a `ChatRequest` that has begun, and what it stands on where documents are asked.
    Raises `APIError`."""
    work, name = asked.work(), asked.model
    if name.startswith(AGENTS):
        entry = await asyncio.to_thread(here.agents.find, name)
        if asked.index:
            raise APIError(400, f"{name} has its own documents: ask without an index",
                           param="index", code="two_indexes")  # fmt: skip
        told = {**work, "groups": grounding.groups_of(access)}
        return await Answer.begin(here, entry, told, prompt=work["messages"], access=access), None
    is_index = name.startswith(ROOT)  # which answers itself, from its own documents alone
    if is_index and asked.index not in (None, name, name.removeprefix(ROOT)):
        raise APIError(
            400, f"{name} answers from its own documents, not from those of {asked.index!r}: name "
            "a model to write, or leave out the index", param="index", code="two_indexes",
        )  # fmt: skip
    if is_index:
        entry = await asyncio.to_thread(here.indexes.find, name)
    else:
        entry = here.entry(name)
    index = name if is_index else asked.index
    if not index:
        return await Answer.begin(here, entry, work, prompt=work["messages"], access=access), None
    return await grounding.begun(here, index, entry, work, access=access, num=asked.num_passages)


async def most_of(here: Serving, model: str | None) -> int | None:
    """How many tokens an answer from documents may have: a quarter of what a model sees at most."""
    if model is None:
        return None
    sees = (await here.pool.get(here.entry(model))).about.get("context_length")
    return MOST_TOKENS if sees is None else min(MOST_TOKENS, sees // 4)


def cited_in(judged: Judged) -> list[dict[str, Any]]:
    """Citations of a message of `/v1/chat/completions`: what of it is from where."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": each["start"], "end_index": each["end"], "title": each["title"],
                "url": each["href"],
            },
        }
        for each in judged.citations
    ]  # fmt: skip


def cited_files(judged: Judged) -> list[dict[str, Any]]:
    """Citations of an output of `/v1/responses`: after which letter, from which file; and what
    OpenAI's have no field for."""
    return [
        {
            "type": "file_citation", "index": each["end"], "file_id": each["place"],
            "filename": each["place"], "start_index": each["start"], "end_index": each["end"],
            "page": each["page"], "url": each["href"],
        }
        for each in judged.citations
    ]  # fmt: skip


def search_of(tools: list[dict[str, Any]] | None) -> tuple[str | None, int | None]:
    """The index that a list of tools has searched, and how many passages. Raises `APIError`."""
    searches = [tool for tool in tools or () if tool.get("type") == SEARCH]
    if not searches:
        return None, None
    names = [name for tool in searches for name in tool.get("vector_store_ids") or ()]
    if len(names) != 1 or not isinstance(names[0], str):
        raise APIError(400, f"{SEARCH} looks into one index at a time, not {len(names)}",
                       param="tools", code="one_index")  # fmt: skip
    if refused := {"filters", "ranking_options"} & {k for k, v in searches[0].items() if v}:
        raise APIError(400, f"{SEARCH} takes no {min(refused)} here", param="tools",
                       code="unsupported_parameter")  # fmt: skip
    num = searches[0].get("max_num_results")
    return names[0], num


def searched(grounds: Grounds, asked: Any) -> dict[str, Any]:
    """The item of an output that tells of the search; with what it found, where that is asked."""
    wanted = RESULTS in (asked.include or ())
    results = [
        {
            "file_id": hit["place"], "filename": hit["place"], "score": hit["score"],
            "text": hit["text"], "attributes": {},
        }
        for hit in grounds.hits
    ]  # fmt: skip
    return {
        "type": "file_search_call", "id": f"fs_{grounds.retrieval.id}", "status": "completed",
        "queries": [grounds.question], "results": results if wanted else None,
    }  # fmt: skip
