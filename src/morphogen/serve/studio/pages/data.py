"""Data that the server was told of: items as their codec shows them, what is wrong with them, what
is there twice, and what the data is made of.

A look at all of the data goes on in the background (`serve.looks`), and its page says how far it
is; what was found is paged without looking again.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response

from morphogen.serve.errors import APIError
from morphogen.serve.looks import Look
from morphogen.serve.studio.kept import keep_view
from morphogen.serve.studio.page import Page, moved, page, view
from morphogen.serve.studio.visitor import Reads, Visitor

SHOWN = 24  # items of a page
LINES, GROUPS = 50, 8  # problems of a page; groups of duplicates
NAMED = 12  # letters that the reasons of one kind begin with, from which they are called so
VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d,.]*")  # in what is to be done about one kind

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/data")
async def sources(request: Request, visitor: Reads) -> Response:
    """What there is."""
    return page(request, visitor, "data", sources=visitor.here.settings.data)


@router.get("/data/{number}")
async def items(
    number: int, request: Request, visitor: Reads, first: int = 0, look: bool = False
) -> Response:
    """Some items; reading them takes a moment, which the page tells before."""
    source = _source(visitor, number)
    asked = request.query_params
    only = {"of": asked["of"], "is": asked["is"]} if {"of", "is"} <= asked.keys() else {}
    facts: dict[str, Any] = {
        "source": source, "number": number, "first": _first(first), "num": SHOWN, "only": only,
    }  # fmt: skip
    if not look:
        return page(request, visitor, "items", found=None, view=None, **facts)
    having = list(only.values()) or None
    told = {"source": str(source), "first": first, "num": SHOWN, "having": having}
    found = await visitor.here.looks.now(look="items", **told)
    name = "-".join(
        ["data", str(number), str(first), *(each.encode().hex() for each in having or ())]
    )
    keep_view(request, name, found.pop("html"))
    return page(request, visitor, "items", found=found, view=name, **facts)


@router.get("/data/{number}/check")
async def check(
    number: int, request: Request, visitor: Reads, first: int = 0, kind: int | None = None
) -> Response:
    """Every defect by its kind, with what to do; all of the data is read for it."""
    source, look = _looked(visitor, number, "check")
    kinds = kinds_of(look.found["problems"]) if look.found else []
    if kind is not None and look.found and not 0 <= kind < len(kinds):
        raise APIError(404, "there is no such kind of problem")
    shown = kinds if kind is None else kinds[kind : kind + 1]
    problems = [each for group in shown for each in group["problems"]]
    return page(
        request, visitor, "check", look=look, found=look.found, source=source, number=number,
        kinds=kinds, kind=kind, problems=problems[_first(first) : first + LINES], first=first,
        num=LINES, total=len(problems),
    )  # fmt: skip


@router.get("/data/{number}/groups")
async def groups(number: int, request: Request, visitor: Reads) -> Response:
    """What the data is made of: its labels, sizes and the like, counted."""
    source, look = _looked(visitor, number, "check")
    facts = look.found["facts"] if look.found else {}
    return page(
        request, visitor, "groups", look=look, found=look.found, source=source, number=number,
        tables=list(counted(facts)),
        others={name: value for name, value in facts.items() if not isinstance(value, Mapping)},
    )  # fmt: skip


@router.get("/data/{number}/duplicates")
async def duplicates(number: int, request: Request, visitor: Reads, first: int = 0) -> Response:
    """What shows the same, side by side, and which of it to keep."""
    source, look = _looked(visitor, number, "duplicates")
    found = look.found["groups"] if look.found else []
    return page(
        request, visitor, "duplicates", look=look, found=look.found, source=source, number=number,
        groups=found[_first(first) : first + GROUPS], first=first, num=GROUPS, total=len(found),
        leave_out=sum(len(each["leave_out"]) for each in found),
    )  # fmt: skip


@router.get("/data/{number}/duplicates/{group}")
async def alike(number: int, group: int, visitor: Reads) -> Response:
    """The items of one group, as their codec shows them."""
    _, look = _looked(visitor, number, "duplicates")
    found = look.found["groups"] if look.found else []
    if not 0 <= group < len(found) or found[group]["html"] is None:
        raise APIError(404, "there is no such group, or it is not shown")
    return view(found[group]["html"], "What is alike")


@router.post("/data/{number}/again")
async def again(number: int, request: Request, visitor: Reads) -> Response:
    """Look at all of it anew: files may change where their folder does not."""
    visitor.here.looks.forget(_source(visitor, number))
    back = str((await request.form()).get("back", ""))
    known = ("check", "groups", "duplicates")
    return moved(f"/data/{number}/{back if back in known else known[0]}")


def kinds_of(problems: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Problems by what is to be done about them: what cannot be used first, then the commonest."""
    same: defaultdict[tuple[bool, str], list[Mapping[str, Any]]] = defaultdict(list)
    for each in problems:
        same[not each["fatal"], VARYING.sub("..", each["fix"])].append(each)
    found = [
        {"fatal": not usable, "called": _called(alike), "problems": alike}
        for (usable, _), alike in same.items()
    ]
    return sorted(found, key=lambda kind: (not kind["fatal"], -len(kind["problems"])))


def _called(problems: Sequence[Mapping[str, Any]]) -> str:
    """What the reasons have in common; where they share no beginning, what is to be done."""
    reasons = sorted(str(each["reason"]) for each in problems)
    first, last = reasons[0], reasons[-1]  # what these begin with, all in between do
    alike = zip(first, last, strict=False)
    num = next((i for i, (a, b) in enumerate(alike) if a != b), min(len(first), len(last)))
    shared = first if first == last else first[:num].rpartition(" ")[0].rstrip(" :,(")
    return shared if len(shared) >= NAMED else str(problems[0]["fix"])


def counted(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The facts that count something, each as a table: the commonest first, with shares."""
    tables = []
    for name, fact in facts.items():
        if not isinstance(fact, Mapping) or not fact:
            continue
        inner = {key: each for key, each in fact.items() if isinstance(each, Mapping)}
        tables += counted({f"{name}: {key}": each for key, each in inner.items()})
        counts = {key: each for key, each in fact.items() if isinstance(each, int)}
        if not counts:
            continue
        whole = sum(counts.values()) or 1
        rows = sorted(counts.items(), key=lambda pair: -pair[1])
        tables.append({
            "name": name.replace("_", " "), "num": len(rows),
            "of": "label" if name == "classes" else name,
            "rows": [{"name": key, "count": num, "share": num / whole} for key, num in rows],
        })  # fmt: skip
    return tables


def _looked(visitor: Visitor, number: int, what: str) -> tuple[Path, Look]:
    """Some data, and a look at all of it, which may be going on. Raises `APIError`."""
    source = _source(visitor, number)
    return source, visitor.here.looks.at(source, look=what)


def _source(visitor: Visitor, number: int) -> Path:
    known = visitor.here.settings.data
    if not 0 <= number < len(known):
        raise APIError(404, "there is no such data: morphogen serve --data FOLDER")
    return known[number]


def _first(first: int) -> int:
    if first < 0:
        raise APIError(400, "the first is 0")
    return first
