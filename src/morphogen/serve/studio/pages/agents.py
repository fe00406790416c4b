"""Agents that are served, what agents did and what they remember.

    /agents                   all of it               /agents/runs/{file}      a trace, run by run
    /agents/memory/{name}     notes, who stands in which relation to whom, what is recalled;
                              one is written, corrected, forgotten with the proof of it

Traces and memories hold words of people, and of documents that not everyone may read: for who
administers. A trace is what `morphogen chat --trace runs/monday.jsonl` wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from morphogen.core.errors import did_you_mean
from morphogen.serve.errors import APIError
from morphogen.serve.studio.kept import keep_view
from morphogen.serve.studio.page import Page, at, page
from morphogen.serve.studio.visitor import Administers, Visitor

DEEDS = ("recall", "remember", "correct", "forget")

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/agents")
async def agents(request: Request, visitor: Administers) -> Response:
    """Those that are served, the traces and the memories in their folders."""

    def read() -> tuple[dict[str, Path], dict[str, Path], dict[str, str]]:
        served = visitor.here.agents.entries()
        told = {entry.name: entry.path.read_text(errors="replace") for entry in served.values()}
        return _traces(visitor), _memories(visitor), told

    traces, memories, served = await asyncio.to_thread(read)
    shown = [(name, file.stat()) for name, file in traces.items()]
    newest = sorted(shown, key=lambda each: -each[1].st_mtime)
    settings = visitor.here.settings
    return page(
        request, visitor, "agents", traces=newest, memories=list(memories), served=served,
        folders=(settings.runs, settings.memories, settings.agents),
    )  # fmt: skip


@router.get("/agents/{name}")
async def agent(name: str, visitor: Administers) -> Response:
    """One that is served: its place on the page of all."""
    entry = await asyncio.to_thread(visitor.here.agents.find, name)
    return RedirectResponse(f"/agents#{at(entry.path.stem)}", 303)


@router.get("/agents/runs/{name}")
async def runs(name: str, request: Request, visitor: Administers) -> Response:
    """The runs of a trace, each as a picture with its verdict."""
    file = _found(await asyncio.to_thread(_traces, visitor), name, "trace")
    look = visitor.here.looks.at(file, look="runs")
    views = []
    for number, each in enumerate(look.found["runs"] if look.found else ()):
        views.append(f"run-{name}-{number}")
        keep_view(request, views[-1], each["html"])
    return page(request, visitor, "agent_runs", name=name, look=look, found=look.found,
                views=views)  # fmt: skip


@router.get("/agents/memory/{name}")
async def memory(name: str, request: Request, visitor: Administers, look: bool = False) -> Response:
    """All that is remembered, the newest first; opening it takes a moment."""
    folder = _found(await asyncio.to_thread(_memories, visitor), name, "memory")
    found = await visitor.here.looks.now(look="memory", source=str(folder)) if look else None
    return _memory(request, visitor, name, found, {})


@router.post("/agents/memory/{name}")
async def do(name: str, request: Request, visitor: Administers) -> Response:
    """Recall what a question is about, write something down, or have it forgotten for good."""
    folder = _found(await asyncio.to_thread(_memories, visitor), name, "memory")
    form = await request.form()
    told = {key: str(form.get(key, "")).strip() for key in ("deed", "question", "note", "text")}
    here, deed = visitor.here, told["deed"]
    asked = {
        "recall": {"question": told["question"]}, "forget": {"forget": told["note"]},
        "remember": {"text": told["text"]},
        "correct": {"correct": told["note"], "text": told["text"]},
    }.get(deed)  # fmt: skip
    if asked is None:
        raise APIError(400, f"there is no such deed: {', '.join(DEEDS)}")
    if not all(asked.values()):
        raise APIError(400, f"{deed} what? A field is empty")
    found = await here.looks.now(look="memory", source=str(folder), **asked)
    if deed != "recall":
        user = visitor.check("administer").user.id
        await here.record(here.records.audit.note, f"memory.{deed}", user=user)
    return _memory(request, visitor, name, found, told)


def _memory(
    request: Request, visitor: Visitor, name: str, found: dict[str, Any] | None,
    told: Mapping[str, str],
) -> Response:  # fmt: skip
    graph = None
    if found is not None and found["graph"]:
        graph = f"memory-{name}"
        keep_view(request, graph, found["graph"])
    notes = {each["id"]: each for each in found["notes"]} if found else {}
    return page(request, visitor, "agent_memory", name=name, address=f"/agents/memory/{at(name)}",
                found=found, notes=notes, graph=graph, told=told)  # fmt: skip


def _traces(visitor: Visitor) -> dict[str, Path]:
    folder = visitor.here.settings.runs
    return {file.name: file for file in sorted(folder.glob("*.jsonl")) if file.is_file()}


def _memories(visitor: Visitor) -> dict[str, Path]:
    """By the names of their folders."""
    folder = visitor.here.settings.memories
    return {file.parent.name: file.parent for file in sorted(folder.glob("*/memory.json"))}


def _found(known: Mapping[str, Path], name: str, what: str) -> Path:
    """Of those that there are, so that no name leads out of the folder."""
    if name not in known:
        raise APIError(404, f"there is no {what} {name!r}.{did_you_mean(name, known)}")
    return known[name]
