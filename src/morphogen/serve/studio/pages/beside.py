"""Side by side: two to four models, asked the same."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from morphogen.serve.answer import while_connected
from morphogen.serve.catalogue import Entry
from morphogen.serve.errors import APIError
from morphogen.serve.forms import filled, written
from morphogen.serve.routes._asked import Drawn
from morphogen.serve.routes._works import made, result_of, seeded, text_of
from morphogen.serve.studio import asking
from morphogen.serve.studio.kept import Given, Kept, Made, kept_of
from morphogen.serve.studio.page import Page, page
from morphogen.serve.studio.pages.play import DRAW, TALK, writes
from morphogen.serve.studio.saying import Said, prompt_of, work_of
from morphogen.serve.studio.visitor import Generates

FEWEST, MOST = 2, 4  # models

router = APIRouter(route_class=Page, include_in_schema=False)


@dataclass(frozen=True)
class Beside:
    """Models that are open, and what all of them can do."""

    entries: Sequence[Entry]
    abouts: Sequence[Mapping[str, Any]]
    task: str
    values: Mapping[str, str]

    def facts(self) -> dict[str, Any]:
        """For the template. Raises `APIError` for what not all of them can do."""
        can = common_tasks(self.abouts)
        if self.task not in can:
            raise APIError(404, f"not all of these {self.task}: {', '.join(can) or 'nothing'} "
                           "is what all of them can do")  # fmt: skip
        form = self.abouts[0]["forms"][self.task]
        fields = form["fields"]
        if self.task == TALK:
            fields = [each for each in fields if each["name"] in Drawn.model_fields]
        known = [set(about.get("conditions", {})) for about in self.abouts]
        conditions = {} if self.task == TALK else self.abouts[0].get("conditions", {})
        return {
            "models": [each.name for each in self.entries], "task": self.task, "can": can,
            "values": self.values, "fields": filled(fields, self.values),
            "takes_inputs": form["takes_inputs"] and self.task != TALK,
            "modality": self.abouts[0]["modality"],
            "conditions": {
                name: kind for name, kind in conditions.items()
                if all(name in names for names in known)
            },
        }  # fmt: skip

    def works(
        self, inputs: Sequence[Given], facts: Mapping[str, Any], cond: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """What each is asked: the same, with the same seed."""
        seed = seeded(asking.number(self.values.get("seed", "")))
        if self.task == TALK:
            said = Said(
                text=self.values.get("text", ""), settings={**self.values, "seed": f"{seed}"}
            )
            return [
                work_of(entry.name, said, (), chats=bool(about.get("chats")))
                for entry, about in zip(self.entries, self.abouts, strict=True)
            ]
        work: dict[str, Any] = {
            "do": DRAW, "seed": seed, "view": "whole", "options": written(facts["fields"]),
            "cond": cond,
        }  # fmt: skip
        if self.task != DRAW:
            work |= {"do": "task", "task": self.task, "inputs": inputs}
        return [work for _ in self.entries]


@router.get("/beside")
async def choose(request: Request, visitor: Generates, again: bool = False) -> Response:
    """Choose models; of those that are chosen, a form of what all of them can do."""
    query, here = request.query_params, visitor.here
    entries = list((await asyncio.to_thread(here.catalogue.entries)).values())
    chosen = query.getlist("model")
    if again or not FEWEST <= len(set(chosen)) <= MOST:
        return page(request, visitor, "choose", entries=entries, chosen=chosen, most=MOST)
    beside = await _opened(visitor, chosen, dict(query))
    return page(request, visitor, "beside", **beside.facts(), columns=None)


@router.post("/beside")
async def ask(request: Request, visitor: Generates) -> Response:
    """Ask all of them at once, and show what each says."""
    form, kept = await request.form(), kept_of(request)
    told = asking.words_of(form)
    chosen = [each for each in form.getlist("model") if isinstance(each, str)]
    beside = await _opened(visitor, chosen, told)
    facts = beside.facts()
    known = facts["conditions"]
    cond = {**asking.conditions_of(told, known), **await asking.conditions_sent(form, known)}
    inputs: list[Given] = []
    if facts["takes_inputs"]:
        inputs = await asking.inputs_of(visitor.here, beside.entries[0], form, kept, cond)
    works = beside.works(inputs, facts, cond)
    asked = [
        _column(visitor, kept, entry, work, inputs)
        for entry, work in zip(beside.entries, works, strict=True)
    ]
    columns = await while_connected(request, _all(asked))
    return page(
        request, visitor, "beside", **facts, columns=columns, seed=works[0]["seed"],
        vary=[about.get("tasks", {}).get("vary", "") is None for about in beside.abouts],
    )  # fmt: skip


async def _all(asked: Sequence[Any]) -> list[dict[str, Any]]:
    return list(await asyncio.gather(*asked))


async def _column(
    visitor: Any, kept: Kept, entry: Entry, work: dict[str, Any], inputs: Sequence[Given]
) -> dict[str, Any]:
    """What one of them says, or why it does not."""
    prompt = prompt_of(work) if work["do"] in ("chat", "complete") else ""
    try:
        answer, events = await made(visitor.here, entry, work, prompt=prompt, access=visitor.access)
    except APIError as error:
        return {"model": entry.name, "failed": error.message}
    column: dict[str, Any] = {
        "model": entry.name, "failed": "", "id": answer.id, "text": None, "items": 0,
        "values": {}, "told": {},
    }  # fmt: skip
    if work["do"] in ("chat", "complete"):
        return {**column, "text": text_of(events), "pages": 0}
    result = result_of(events)
    pages = tuple(filter(None, [result.get("html", "")]))
    kept.put(answer.id, Made(pages, tuple(result["items"]), tuple(inputs)))
    return {
        **column, "pages": len(pages), "items": len(result["items"]),
        "values": result["values"], "told": result["told"],
    }  # fmt: skip


async def _opened(visitor: Any, chosen: Sequence[str], values: Mapping[str, str]) -> Beside:
    """The models, opened. Raises `APIError` where they cannot be compared."""
    here = visitor.here
    entries = [here.entry(name) for name in dict.fromkeys(chosen)]
    if not FEWEST <= len(entries) <= MOST:
        raise APIError(400, f"{FEWEST} to {MOST} models stand side by side, not {len(entries)}")
    abouts = [(await here.pool.get(entry)).about for entry in entries]
    kinds = {about["modality"] for about in abouts}
    if len(kinds) > 1:
        raise APIError(400, f"models of one modality stand side by side, not of {', '.join(kinds)}")
    can = common_tasks(abouts)
    return Beside(entries, abouts, values.get("task") or next(iter(can), DRAW), values)


def common_tasks(abouts: Sequence[Mapping[str, Any]]) -> list[str]:
    """What all of some models can do: what one looks for first."""
    tasks = [about.get("tasks", {}) for about in abouts]
    able = [name for name in tasks[0] if all(each.get(name, "") is None for each in tasks)]
    able.sort(key=lambda name: name != DRAW)
    return [TALK] * all(map(writes, abouts)) + able
