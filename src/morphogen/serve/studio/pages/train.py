"""Training begins: which data, which family and how, what it would need; and all that were begun.

    /train            those that there are          /train/new        data, then the form
    /train/forecast   what it would need            POST /train       begin

With `from`, the name of a trained model, that one is adapted to the data, all of it or by an
adapter beside it. How one goes on is told by `run.py`.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from fastapi import APIRouter, Request, Response

from morphogen.core.visible import in_shell
from morphogen.serve.catalogue import Entry
from morphogen.serve.errors import APIError
from morphogen.serve.forms import filled
from morphogen.serve.looks import Look
from morphogen.serve.places import places
from morphogen.serve.studio.page import Page, at, moved, page
from morphogen.serve.studio.visitor import Reads, Trains, Visitor

SHOWN = 100  # trainings of the list
USUAL, USUAL_ADAPTER = "10m", "lora"
NOWHERE = "forecast"  # a folder that nothing is written to
FIRST = ("batch_size", "lr", "seed")  # options of training that stand first
TABLES = ("family", "backbone", "train")
ADAPTER = "wrapper"  # the table of what is trained in place of a model's own weights
UNASKED = {"budget", "shard", "forgetting"}  # asked apart, or of another start than a form's

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/train")
async def trainings(request: Request, visitor: Reads) -> Response:
    """Every one: those that go on first."""
    found = await asyncio.to_thread(visitor.here.trainings.all)
    return page(request, visitor, "train", found=found[:SHOWN], num=len(found))


@router.get("/train/new")
async def new(request: Request, visitor: Trains) -> Response:
    """The data, then the form, which takes a look at the data."""
    values = dict(request.query_params)
    if "data" not in values:
        known = await asyncio.to_thread(places, visitor.here.settings.data)
        start = values.get("from", "")
        return page(request, visitor, "train_data", places=known, start=start)
    return await _form(request, visitor, values)


@router.get("/train/forecast")
async def forecast(request: Request, visitor: Trains) -> Response:
    """What a training would need, measured by a few steps of it."""
    here, values = visitor.here, dict(request.query_params)
    source, recipe = await _source(visitor, values), recipe_of(values, _start(visitor, values))
    out = here.settings.models / NOWHERE
    try:
        look = here.looks.at(source, look="forecast", recipe=recipe, out=str(out))
    except APIError as error:
        return await _form(request, visitor, values, error.message)
    facts: dict[str, Any] = {"look": look, "source": source, "values": values, "stages": []}
    if look.found is not None:
        facts["stages"] = look.found["stages"]
        facts["memory"] = psutil.virtual_memory().available
        facts["disk"] = shutil.disk_usage(here.settings.models).free
        facts["name"] = _free_name(here.settings.models, source, recipe)
        known = await asyncio.to_thread(here.trainings.all)
        facts["going"] = [each for each in known if each.is_going]
    return page(request, visitor, "forecast", **facts)


@router.post("/train")
async def begin(request: Request, visitor: Trains) -> Response:
    """Begin to train; what it is called is free still."""
    form = await request.form()
    values = {key: each for key, each in form.items() if isinstance(each, str) and key != "token"}
    source, recipe = await _source(visitor, values), recipe_of(values, _start(visitor, values))
    access, here = visitor.check("train"), visitor.here
    try:
        training = await asyncio.to_thread(
            here.trainings.start, values.get("name", ""), source, recipe, access.user.name
        )
    except APIError as error:
        return await _form(request, visitor, values, error.message, error.status)
    await here.record(here.records.audit.note, "train.start", user=access.user.id)
    return moved(f"/train/run/{at(training.name)}")


def recipe_of(values: Mapping[str, str], start: Entry | None = None) -> dict[str, dict[str, str]]:
    """The recipe that a form tells: what was left empty is left to the house. What begins with a
    trained model has its family."""
    names = TABLES if start is None else ("train", "start", ADAPTER)
    tables: dict[str, dict[str, str]] = {name: {} for name in names}
    if start is not None:
        tables["start"]["from"] = str(start.path.absolute())
    for table, field in (("family", "family"), (ADAPTER, "adapter")):
        if table in tables and values.get(field):
            tables[table]["name"] = values[field]
    if not tables.get(ADAPTER):  # all of the model is trained
        tables.pop(ADAPTER, None)
    tables["train"]["budget"] = values.get("budget") or USUAL
    for key, value in values.items():
        table, dot, option = key.partition(".")
        if dot and value and table in tables and option not in {*UNASKED, "name", "from"}:
            tables[table][option] = value
    return {name: table for name, table in tables.items() if table}


async def _form(
    request: Request, visitor: Visitor, values: Mapping[str, str], failed: str = "",
    status: int = 200,
) -> Response:  # fmt: skip
    """The form for some data, once that was looked at; what was wrong with it last stands above."""
    source = await _source(visitor, values)
    if (start := _start(visitor, values)) is not None:
        facts = {"start": start, "source": source, "values": values, "failed": failed}
        facts |= _adapting(visitor, start, source, values)
        return page(request, visitor, "adapt_form", status=status, **facts)
    look = visitor.here.looks.at(source, look="plan")
    facts = {"look": look, "source": source, "values": values, "failed": failed}
    if look.found is None:
        return page(request, visitor, "train_form", status=status, plan=None, **facts)
    facts |= _fields(look, values)
    return page(request, visitor, "train_form", status=status, plan=look.found, **facts)


def _adapting(
    visitor: Visitor, start: Entry, source: Path, values: Mapping[str, str]
) -> dict[str, Any]:
    """What the form for adapting a trained model to some data shows."""
    here, recipe = visitor.here, {"start": {"from": str(start.path.absolute())}}
    out = str(here.settings.models / NOWHERE)
    look = here.looks.at(source, look="adapting", recipe=recipe, out=out)
    facts: dict[str, Any] = {"look": look, "plan": look.found}
    if look.found is not None:
        adapters = look.found["adapters"]
        chosen = values.get("adapter", USUAL_ADAPTER)
        facts["adapter"] = chosen = chosen if chosen in adapters else ""
        facts["parts"] = _called(ADAPTER, adapters[chosen]["fields"], values) if chosen else []
        train = _called("train", look.found["train"], values)
        facts |= _divided(train) | {"budget": values.get("budget") or USUAL}
    return facts


def _fields(look: Look, values: Mapping[str, str]) -> dict[str, Any]:
    """The form of a family: the usual one's, where none or an unknown one is asked for."""
    assert look.found is not None
    fits = look.found["fits"]
    family = values.get("family", "")
    family = family if family in fits else look.found["usual"]
    fields = fits.get(family, {"about": "", "called": {}, **{table: [] for table in TABLES}})

    called = fields["called"]
    return {
        "family": family, "about": fields["about"],
        "parts": [
            (called.get(table, ""), _called(table, fields[table], values)) for table in TABLES[:2]
        ],
        **_divided(_called("train", fields["train"], values)),
        "budget": values.get("budget") or USUAL,
    }  # fmt: skip


def _called(
    table: str, fields: Sequence[Mapping[str, Any]], values: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The fields of a table, by their names in the form, with what was written in them."""
    called = [
        {**each, "name": f"{table}.{each['name']}", "label": each["name"]}
        for each in fields if each["name"] not in UNASKED
    ]  # fmt: skip
    return filled(called, values)


def _divided(train: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Fields of training: those that stand first, and the others."""
    return {
        "first_fields": [each for each in train if each["label"] in FIRST],
        "other_fields": [each for each in train if each["label"] not in FIRST],
    }


def _start(visitor: Visitor, values: Mapping[str, str]) -> Entry | None:
    """The model that a form begins with; none where it begins with nothing. Raises `APIError`."""
    if not values.get("from"):
        return None
    entry = visitor.here.entry(values["from"])
    if entry.kind != "bundle":
        base = in_shell(f"{visitor.here.settings.models}/base")
        command = f"morphogen import {in_shell(entry.path)} --out {base}"
        raise APIError(400, f"{entry.name} is not in our format: {command}")
    return entry


async def _source(visitor: Visitor, values: Mapping[str, str]) -> Path:
    """Where the data lies that a form tells of. Raises `APIError`."""
    known = await asyncio.to_thread(places, visitor.here.settings.data)
    found = known.get(values.get("data", ""))
    if found is None:
        raise APIError(404, "there is no such data: morphogen serve --data FOLDER")
    return found


def _free_name(models: Path, source: Path, recipe: Mapping[str, Mapping[str, str]]) -> str:
    """A name that no model has, from the data's and the family's."""
    base = Path(recipe.get("start", {}).get("from", "model")).name
    family = recipe.get("family", {}).get("name", base).replace("+", "-")
    stem = "".join(each if each.isascii() and each.isalnum() else "-" for each in source.stem)
    name = f"{stem.strip('-') or 'data'}-{family}"[:56]
    number = 1
    while (models / f"{name}-{number}").exists():
        number += 1
    return f"{name}-{number}"
