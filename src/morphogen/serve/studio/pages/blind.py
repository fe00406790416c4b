"""Blind comparisons: who answers what, one pair after the other, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData

from morphogen.records.generation import Generation
from morphogen.serve.catalogue import Entry
from morphogen.serve.errors import APIError
from morphogen.serve.routes._works import made, result_of
from morphogen.serve.serving import Serving
from morphogen.serve.studio import contest
from morphogen.serve.studio.asking import number, words_of
from morphogen.serve.studio.kept import Kept, Made, kept_of
from morphogen.serve.studio.page import Page, moved, page
from morphogen.serve.studio.pages.play import DRAW, TALK, usual
from morphogen.serve.studio.saying import Said, prompt_of, work_of
from morphogen.serve.studio.visitor import Annotates, Generates, Reads

MOST_PAIRS = 200
LISTED = 20  # comparisons on the first page
LOOK = 0.2  # seconds between two looks for the next pair
PATIENCE = 60.0  # seconds that a page waits for one

Work = tuple[dict[str, Any], Any]  # what a process is asked, and what is recorded as the prompt

router = APIRouter(route_class=Page, include_in_schema=False)


@dataclass
class Making:
    """A comparison whose answers are being made."""

    entries: Sequence[Entry]
    pairs: Sequence[tuple[Work, ...]]
    access: Any  # of whoever began it
    task: asyncio.Task[None] | None = None
    failed: str = ""

    @property
    def is_over(self) -> bool:
        """Whether no more will come."""
        return self.task is not None and self.task.done()

    @property
    def num(self) -> int:
        """Pairs, in the end."""
        return len(self.pairs)


@router.get("/blind")
async def begun(request: Request, visitor: Reads) -> Response:
    """Comparisons that there are, and a form for another."""
    records = visitor.here.records

    def look() -> list[contest.Contest]:
        return [contest.read(records, name) for name in contest.names(records)[:LISTED]]

    entries = (await asyncio.to_thread(visitor.here.catalogue.entries)).values()
    return page(
        request, visitor, "blind", contests=await asyncio.to_thread(look), entries=list(entries),
        making=_making(request),
    )  # fmt: skip


@router.post("/blind")
async def begin(request: Request, visitor: Generates) -> Response:
    """Have two models answer; the first pair can be looked at while others are made."""
    here, form = visitor.here, await request.form()
    entries = [here.entry(words_of(form).get(side, "")) for side in ("first", "second")]
    if entries[0] == entries[1]:
        raise APIError(400, "two models are compared, and these are one")
    abouts = [(await here.pool.get(each)).about for each in entries]
    kinds = {(about["modality"], usual(about)) for about in abouts}
    if len(kinds) > 1 or {what for _, what in kinds} - {TALK, DRAW}:
        told = " and ".join(f"{kind} ({what})" for kind, what in sorted(kinds))
        raise APIError(400, f"two that write, or draw the same, are compared, and these are {told}")
    name = contest.new_name()
    making = Making(entries, _pairs(form, entries, abouts), visitor.access)
    _making(request)[name] = making
    making.task = asyncio.create_task(_make(here, kept_of(request), name, making))
    return moved(f"/blind/{name}")


@router.get("/blind/{name}")
async def ballot(
    name: str,
    request: Request,
    visitor: Annotates,
    *,
    after: int = -1,
    pair: int | None = None,
    wait: bool = False,
) -> Response:
    """The next pair that the visitor has not voted on, or one that they want to see again."""
    here, making = visitor.here, _making(request).get(name)
    until = asyncio.get_running_loop().time() + PATIENCE * wait
    found = await _found(here, name, making, visitor.name, after=after, until=until)
    facts: dict[str, Any] = {"name": name, "contest": found, "making": making, "after": after}
    if found is None:
        return page(request, visitor, "ballot", **facts, pair=None)
    left = found.left_for(visitor.name, after) if pair is None else [found.pair(pair)]
    if not left:
        return page(request, visitor, "ballot", **facts, pair=None)
    shown = left[0]
    sides = contest.seen(here.records, shown, visitor.name)
    for answer in sides:
        await _shown_again(here, kept_of(request), answer)
    asked = await asyncio.to_thread(here.records.generations.get, sides[0].id)
    return page(
        request, visitor, "ballot", **facts, pair=shown, sides=sides, asked=asked,
        mine=shown.vote_on(sides[0], visitor.name),
    )  # fmt: skip


@router.post("/blind/{name}")
async def voted(name: str, request: Request, visitor: Annotates) -> Response:
    """Say which is better, and go on to the next."""
    told = words_of(await request.form())
    here, access = visitor.here, visitor.check("annotate")
    found = await asyncio.to_thread(contest.read, here.records, name)
    pair = found.pair(number(told.get("pair", "")) or 0)
    await here.record(contest.vote, here.records, pair, told.get("side", ""), access.user)
    return moved(f"/blind/{name}", after=pair.number)


@router.get("/blind/{name}/result")
async def result(name: str, request: Request, visitor: Reads) -> Response:
    """Who is who, and how often which was better."""
    found = await asyncio.to_thread(contest.read, visitor.here.records, name)
    rate = await asyncio.to_thread(found.rate)
    left = len(found.left_for(visitor.name))
    return page(request, visitor, "verdict", name=name, contest=found, rate=rate, left=left)


# -- what is asked -------------------------------------------------------------------------------


def _pairs(
    form: FormData, entries: Sequence[Entry], abouts: Sequence[Any]
) -> list[tuple[Work, ...]]:
    """What both are asked, pair by pair: each prompt with each seed. Raises `APIError`."""
    told = words_of(form)
    first, num = (number(told.get(name, "")) or 0 for name in ("seed", "num"))
    seeds = range(first, first + (num or 1))
    prompts = [line for line in told.get("prompts", "").splitlines() if line.strip()]
    draws = usual(abouts[0]) == DRAW
    if not prompts and not draws:
        raise APIError(400, "there is nothing that could be answered: write a prompt in each line")
    asked = [(prompt, seed) for seed in seeds for prompt in (prompts or [""])]
    if not 1 <= len(asked) <= MOST_PAIRS:
        raise APIError(400, f"1 to {MOST_PAIRS} pairs are compared, and these are {len(asked)}")
    work = _drawing if draws else _writing
    return [
        tuple(work(*one, prompt, seed, told) for one in zip(entries, abouts, strict=True))
        for prompt, seed in asked
    ]


def _writing(entry: Entry, about: Any, prompt: str, seed: int, told: dict[str, str]) -> Work:
    settings = {name: told[name] for name in ("most", "temperature") if told.get(name)}
    said = Said(text=prompt, settings={**settings, "seed": str(seed)})
    work = work_of(entry.name, said, (), chats=bool(about.get("chats")))
    return work, prompt_of(work)


def _drawing(entry: Entry, about: Any, prompt: str, seed: int, told: dict[str, str]) -> Work:
    """A prompt is a condition: its name and value, or its value where there is one alone."""
    known = about.get("conditions", {})
    name, is_named, value = prompt.partition("=")
    cond = {name.strip(): value.strip()} if is_named else {}
    if prompt and not is_named:
        if len(known) != 1:
            names = ", ".join(known) or "none, as there are none"
            raise APIError(400, f"{prompt[:40]!r} is of no condition: write NAME=VALUE, and a name "
                           f"among {names}")  # fmt: skip
        cond = dict.fromkeys(known, prompt.strip())
    work = {"do": DRAW, "seed": seed, "cond": cond, "options": {"num": 1}, "view": "whole"}
    return work, prompt


async def _make(here: Serving, kept: Kept, name: str, making: Making) -> None:
    """Have all pairs answered, one after the other, for as long as the server is there."""
    try:
        for place, both in enumerate(making.pairs):
            if not here.is_ready:
                break
            answers = await asyncio.gather(*(
                made(here, entry, work, prompt=prompt, access=making.access)
                for entry, (work, prompt) in zip(making.entries, both, strict=True)
            ))  # fmt: skip
            for answer, events in answers:
                if shown := next((e["result"].get("html") for e in events if "result" in e), None):
                    kept.put(answer.id, Made((shown,)))
            uids = [answer.id for answer, _ in answers]
            await here.record(contest.add, here.records, name, place, uids)
    except APIError as error:
        making.failed = error.message


async def _found(
    here: Serving, name: str, making: Making | None, who: str | None, *, after: int, until: float
) -> contest.Contest | None:
    """The comparison, once there is a pair for somebody, or no more will come, or it is late; None
    where its first pair is yet to come. Raises `APIError` where none comes."""
    loop = asyncio.get_running_loop()
    while True:
        is_over, found = making is None or making.is_over, None
        try:
            found = await asyncio.to_thread(contest.read, here.records, name)
        except APIError as error:
            if is_over:
                raise APIError(404, making.failed if making else error.message) from None
        if (found and found.left_for(who, after)) or is_over or loop.time() >= until:
            return found
        await asyncio.sleep(LOOK)


async def _shown_again(here: Serving, kept: Kept, answer: Generation) -> None:
    """Draw what is not kept any longer again, by its seed; nothing of that is recorded."""
    if answer.answer is not None or answer.task != DRAW or kept.has(answer.id):
        return
    told = await asyncio.to_thread(here.records.generations.get, answer.id)
    process = await here.pool.get(here.entry(answer.model))
    if process.about.get("hash") != answer.model_hash:
        raise APIError(404, "a model has changed since: what it drew cannot be drawn again")
    parts = {name: told.parameters.get(name) or {} for name in ("cond", "options")}
    work = {"do": DRAW, "seed": answer.seed, "view": "whole", **parts}
    events = [event async for event in await process.ask(work)]
    kept.put(answer.id, Made((result_of(events)["html"],)))


def _making(request: Request) -> dict[str, Making]:
    """Those that this server makes, or made."""
    state = request.app.state
    if not hasattr(state, "making"):
        state.making = {}
    found: dict[str, Making] = state.making
    return found
