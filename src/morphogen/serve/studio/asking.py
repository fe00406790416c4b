"""What a form of a task says -> what the process of a model is asked.

files, text     items that people bring
part.NAME       a part of an item: a text, or a file
redraw.NAME     one that is to be drawn, whatever it was
of              what an earlier task worked on, and what of it was hidden
like, item      one of the items that came of an earlier one
drawn           seeds, each of an item that the model draws itself: "3, 17" or "0-63"
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.datastructures import FormData, UploadFile

from morphogen.serve.catalogue import Entry
from morphogen.serve.errors import APIError
from morphogen.serve.routes._works import result_of, sent
from morphogen.serve.serving import Serving
from morphogen.serve.studio.kept import Given, Kept

PART, REDRAW = "part", "redraw"  # fields begin so
MOST_DRAWN = 64  # items that a task has the model draw for it
PAIR = re.compile(r"(-?\d{1,18})(?:\s*-\s*(\d{1,18}))?")


async def inputs_of(
    here: Serving, entry: Entry, form: FormData, kept: Kept, cond: Mapping[str, Any]
) -> list[Given]:
    """What a task works on: what people bring before all else. Raises `APIError`."""
    found = await _worked_on(here, entry, form, kept, cond)
    if not (parts := await parts_of(form)):
        return found
    if any("parts" not in each for each in found):
        raise APIError(400, "files of whole items, or the parts of one: not both")
    return [{"parts": {**each.get("parts", {}), **parts}} for each in found or [{"parts": {}}]]


async def _worked_on(
    here: Serving, entry: Entry, form: FormData, kept: Kept, cond: Mapping[str, Any]
) -> list[Given]:
    files = [each for each in form.getlist("files") if isinstance(each, UploadFile)]
    if found := [await sent(each) for each in files if each.filename]:
        return list(found)
    told = words_of(form)
    if text := told.get("text"):
        return [{"text": text}]
    if of := told.get("of"):
        return list(kept.get(of).inputs)
    if like := told.get("like"):
        return [kept.item(like, number(told.get("item", "")) or 1)]
    return await drawn(here, entry, seeds_of(told.get("drawn", "")), cond)


async def parts_of(form: FormData) -> dict[str, Given | None]:
    """The parts of an item that people bring, by name; None for those that are to be drawn."""
    told, brought, anew = words_of(form), dict[str, Given | None](), dict[str, None]()
    for key, value in form.items():
        what, _, name = key.partition(".")
        if what == REDRAW:
            anew[name] = None
        elif what == PART and isinstance(value, UploadFile) and value.filename:
            brought[name] = await sent(value)
        elif what == PART and told.get(key, "").strip():
            brought[name] = {"text": told[key]}
    return brought | anew


async def hidden_of(form: FormData, kept: Kept) -> Given | None:
    """What of it is to be drawn anew. Raises `APIError`."""
    painted, told = form.get("hidden"), words_of(form)
    if isinstance(painted, UploadFile) and painted.filename:
        return await sent(painted)
    if spans := told.get("spans"):
        return {"spans": spans_of(spans)}
    return kept.get(told["of"]).hidden if told.get("of") else None


async def drawn(
    here: Serving, entry: Entry, seeds: Sequence[int], cond: Mapping[str, Any]
) -> list[Given]:
    """Items that a model draws to work on, one for each seed: parts of a task, not answers of
    their own, so that the records tell of the seeds alone."""
    process = await here.pool.get(entry)

    async def one(seed: int) -> Given:
        work = {"do": "generate", "seed": seed, "cond": dict(cond), "options": {"num": 1}}
        events = [event async for event in await process.ask(work)]
        items: list[Given] = result_of(events)["items"]
        if not items:
            raise APIError(400, f"what {entry.name} draws is no item to go on with: bring a file")
        return items[0]

    return list(await asyncio.gather(*map(one, seeds)))


def seeds_of(told: str) -> list[int]:
    """ "3, 17" or "0-63". Raises `APIError`."""
    found: list[int] = []
    for part in filter(None, (each.strip() for each in told.split(","))):
        said = PAIR.fullmatch(part)
        if said is None:
            raise APIError(400, f"{part[:40]!r} is no seed: 3, 17 or 0-63")
        first, last = int(said[1]), int(said[2] or said[1])
        if len(found) + last - first >= MOST_DRAWN or last < first:
            raise APIError(400, f"1 to {MOST_DRAWN} items are drawn for a task, not {told[:40]!r}")
        found += range(first, last + 1)
    return found


def spans_of(told: str) -> list[list[int]]:
    """ "12-20, 30-34": characters of a text, from and before. Raises `APIError`."""
    spans = []
    for part in filter(None, (each.strip() for each in told.split(","))):
        said = PAIR.fullmatch(part)
        if said is None or said[2] is None:
            raise APIError(400, f"{part[:40]!r} is no place in a text: 12-20")
        spans.append([int(said[1]), int(said[2])])
    return spans


def conditions_of(told: Mapping[str, str], known: Mapping[str, Any]) -> dict[str, Any]:
    """By name, those that were told."""
    return {name: told[f"cond.{name}"] for name in known if told.get(f"cond.{name}")}


async def conditions_sent(form: FormData, known: Mapping[str, Any]) -> dict[str, Any]:
    """By name, those that were brought as files: a picture, a sound."""
    files = {name: form.get(f"cond.{name}") for name in known}
    return {
        name: await sent(file)
        for name, file in files.items()
        if isinstance(file, UploadFile) and file.filename
    }


def words_of(form: FormData) -> dict[str, str]:
    """What was written and chosen, but for the token of the page; lines end as they were typed."""
    return {
        key: value.replace("\r\n", "\n")
        for key, value in form.items()
        if isinstance(value, str) and key != "token"
    }


def number(told: str) -> int | None:
    """A whole number, or none. Raises `APIError` for another word."""
    try:
        return int(told) if told else None
    except ValueError:
        raise APIError(400, f"{told[:40]!r} is no whole number") from None
