"""What is better: comparisons that were made, and the scores of models side by side.

/compare                          what there is to look at
/compare/new                      one more, which every family that fits takes part in
/compare/of/NAME                  a comparison, as `morphogen compare` left it among the models
/compare/models?of=NAME&of=NAME   evaluated models, score by score
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from morphogen.core.errors import MeasurementError, MorphogenError
from morphogen.core.measurement import FREE, Measurement
from morphogen.serve.catalogue import NOT_EVALUATED, Entry, read_json
from morphogen.serve.comparisons import Comparison
from morphogen.serve.errors import APIError
from morphogen.serve.places import places
from morphogen.serve.studio.deeds import done_with
from morphogen.serve.studio.page import Page, at, moved, page
from morphogen.serve.studio.pages.model import number
from morphogen.serve.studio.visitor import Reads, Trains, Visitor
from morphogen.training.options import Budget

MOST = 8  # models side by side
MARGIN = 0.04  # of the width of a scale, on each side

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/compare")
async def found(request: Request, visitor: Reads) -> Response:
    """Comparisons, and models to choose from."""
    here = visitor.here

    def read() -> tuple[list[Comparison], list[Entry]]:
        entries = here.catalogue.entries().values()
        judged = [each for each in entries if each.verdict != NOT_EVALUATED]
        return list(here.comparisons.all().values()), judged

    comparisons, judged = await asyncio.to_thread(read)
    return page(
        request, visitor, "compare", comparisons=comparisons, judged=judged,
        folder=here.settings.models,
    )  # fmt: skip


@router.get("/compare/new")
async def new(request: Request, visitor: Trains, data: str = "") -> Response:
    """The form of one more."""
    return await _form(request, visitor, {"data": data})


@router.post("/compare")
async def begin(request: Request, visitor: Trains) -> Response:
    """Begin to compare every family that fits some data."""
    form = await request.form()
    values = {key: each for key, each in form.items() if isinstance(each, str)}
    access, here = visitor.check("train"), visitor.here
    try:
        Budget.parse(values.get("budget", ""))
        seeds = int(values.get("seeds", ""))
        source = (await asyncio.to_thread(places, here.settings.data))[values.get("data", "")]
        given = (values.get("name", ""), source, values["budget"], seeds, access.user.name)
        comparison = await asyncio.to_thread(here.comparisons.start, *given)
    except (APIError, MorphogenError) as error:
        return await _form(request, visitor, values, error.message)
    except (KeyError, ValueError) as error:
        raise APIError(400, "the form is not whole: data, budget, how often, name") from error
    await here.record(here.records.audit.note, "compare.start", user=access.user.id)
    return moved(f"/compare/of/{at(comparison.name)}")


@router.get("/compare/of/{name:path}")
async def one(name: str, request: Request, visitor: Reads) -> Response:
    """One comparison: where it stands, advice, places, samples, what all runs have in common."""

    def read() -> tuple[Comparison, dict[str, Any] | None]:
        comparison = visitor.here.comparisons.find(name)
        record = comparison.record
        return comparison, _facts(comparison, record) if record else None

    try:
        comparison, facts = await asyncio.to_thread(read)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise APIError(400, f"the record of {name} cannot be read: {error!r}") from error
    return page(request, visitor, "comparison", comparison=comparison, told=facts)


@router.post("/compare/of/{name:path}")
async def do(name: str, request: Request, visitor: Trains) -> Response:
    """Stop it, or go on with it."""
    own = visitor.here.comparisons
    deeds = {"stop": own.stop, "go_on": own.go_on}
    comparison = await done_with(
        request, visitor, verb="compare", find=own.find, name=name, deeds=deeds
    )
    return moved(f"/compare/of/{at(comparison.name)}")


@router.get("/compare/models")
async def models(request: Request, visitor: Reads) -> Response:
    """Models side by side."""
    of = request.query_params.getlist("of")
    if not 2 <= len(set(of)) <= MOST:
        raise APIError(400, f"choose 2 to {MOST} models to set side by side")
    entries = [visitor.here.entry(name) for name in dict.fromkeys(of)]

    def read() -> list[Mapping[str, Any]]:
        return [read_json(each.path / "metrics.json").get("evaluation") or {} for each in entries]

    records = await asyncio.to_thread(read)
    try:
        judged = [_measurements(each) for each in records]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise APIError(400, f"an evaluation cannot be read: {error!r}") from error
    names = dict.fromkeys(name for each in judged for name in each)
    rows = [_row(name, [each.get(name) for each in judged]) for name in names]
    differing = _differing([each.get("protocol") or {} for each in records])
    return page(request, visitor, "side_by_side", entries=entries, rows=rows, differing=differing)


async def _form(
    request: Request, visitor: Visitor, values: Mapping[str, str], failed: str = ""
) -> Response:
    known = await asyncio.to_thread(places, visitor.here.settings.data)
    facts = {"places": known, "values": values, "failed": failed}
    return page(request, visitor, "compare_new", status=400 if failed else 200, **facts)


def _facts(comparison: Comparison, told: Mapping[str, Any]) -> dict[str, Any]:
    """A comparison's record, as its page shows it."""
    from morphogen.comparison.stability import Stability

    ranked, runs = told["places"], told.get("runs") or []
    others = list(dict.fromkeys(each for place in ranked for each in place["others"]))
    bars = _bars([(each["value"], each["low"], each["high"]) for each in ranked])
    steady = told.get("stability")
    return {
        "score": told["score"], "advice": told["advice"], "absent": told["absent"],
        "protocol": told["protocol"], "energy": told.get("energy", ""), "others": others,
        "rows": [_place(place, others, bar) for place, bar in zip(ranked, bars, strict=True)],
        "stability": Stability(**steady).text() if steady else "",
        "higher": bool(told.get("higher_is_better")),
        "sheets": list(_sheets(comparison, [each["family"] for each in ranked], runs)),
    }  # fmt: skip


def _place(
    place: Mapping[str, Any], others: Sequence[str], bar: Mapping[str, float]
) -> dict[str, Any]:
    """A row of a leaderboard."""
    notes = [place["standing"], *["copies"] * bool(place["copies"])]
    return {
        "family": place["family"], "value": number(place["value"]), "bar": bar,
        "interval": f"{number(place['low'])} to {number(place['high'])}",
        "notes": [*notes, *place.get("alarms", [])], "seeds": place["num_seeds"],
        "others": [number(place["others"][each]) if each in place["others"] else "" for each in
                   others],
        "seconds": place["seconds"], "sampling": number(place["sampling_seconds_per_1000"]),
        "memory": place["memory_bytes"], "parameters": place["num_parameters"],
        "energy": number(place["watt_hours"]),
    }  # fmt: skip


def _sheets(
    comparison: Comparison, families: Sequence[str], runs: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, str]]:
    """The last pictures of each family's first run, best family first."""
    for family in families:
        run = next((each for each in runs if each["family"] == family), None)
        if run is None or not str(run.get("sheet") or "").endswith(".png"):
            continue
        folder = f"runs/{family}-{run['seed']}"
        if (comparison.path / folder / run["sheet"]).is_file():
            yield {"family": family, "run": f"{comparison.name}/{folder}", "of": run["sheet"]}


def _measurements(record: Mapping[str, Any]) -> dict[str, Measurement]:
    common = {"protocol": record.get("protocol") or {}}
    scores = record.get("scores") or {}
    return {
        name: Measurement(name=name, **{**common, **told})
        for name, told in scores.items()
        if told["value"] is not None
    }


def _row(name: str, cells: Sequence[Measurement | None]) -> dict[str, Any]:
    """A score of each model: which is best, where they compare, and which are a tie with it."""
    known = [each for each in cells if each is not None]
    words: dict[int, str] = {}
    note = known[0].note
    higher = known[0].higher_is_better
    if len(known) > 1 and higher is not None:
        best = (max if higher else min)(known, key=lambda each: each.value)
        try:
            ties = [each for each in known if each is not best and not best.better_than(each)]
            words = {id(best): "best" if not ties else "tie"} | {id(each): "tie" for each in ties}
        except MeasurementError:
            note = "not measured alike"
    bars = iter(_bars([(each.value, _end(each, "low"), _end(each, "high")) for each in known]))
    return {
        "name": name.replace("_", " "), "note": note,
        "better": {True: "high", False: "low", None: ""}[higher],
        "cells": [None if each is None else {
            "value": number(each.value), "word": words.get(id(each), ""), "bar": next(bars),
            "interval": "" if each.low is None or each.high is None
                        else f"{number(each.low)} to {number(each.high)}",
        } for each in cells],
    }  # fmt: skip


def _end(measured: Measurement, name: str) -> float:
    """An end of its interval; itself, where it has none."""
    end: float | None = getattr(measured, name)
    return measured.value if end is None else end


def _bars(told: Sequence[tuple[float, float, float]]) -> list[dict[str, float]]:
    """Values with their intervals on one scale, in hundredths of its width."""
    low = min((each[1] for each in told), default=0.0)
    high = max((each[2] for each in told), default=0.0)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        share = MARGIN + (1 - 2 * MARGIN) * (value - low) / span if high > low else 0.5
        return round(100 * share, 2)

    return [{"value": x(value), "low": x(a), "high": x(b)} for value, a, b in told]


def _differing(protocols: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was not alike when the models were measured."""
    names = sorted({name for each in protocols for name in each} - FREE)
    return [name for name in names if any(
        each.get(name) != protocols[0].get(name) for each in protocols
    )]  # fmt: skip
