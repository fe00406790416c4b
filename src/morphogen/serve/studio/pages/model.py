"""One model: what it is, how good it is, and what it makes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response

from morphogen.core.visible import in_shell
from morphogen.serve.catalogue import Entry, read_json
from morphogen.serve.errors import APIError
from morphogen.serve.studio.page import Page, at, moved, page, view
from morphogen.serve.studio.visitor import Reads, Trains
from morphogen.serve.trainings import LOG

CONFIG, EVALUATION, CARD = "config.json", "evaluation.html", "README.md"
MOST_SHOWN = 64 << 20  # bytes of a page that is handed on

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/models/{name:path}")
async def model(name: str, request: Request, visitor: Reads) -> Response:
    """Its card, its scores, its page."""
    entry = visitor.here.entry(name)
    try:
        facts = await asyncio.to_thread(_facts, entry)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise APIError(400, f"the records of {entry.name} cannot be read: {error!r}") from error
    return page(request, visitor, "model", entry=entry, **facts)


@router.get("/evaluation/{name:path}")
async def evaluation(name: str, visitor: Reads) -> Response:
    """The page of its last evaluation, copying pairs among it, as `morphogen evaluate` wrote it."""
    entry = visitor.here.entry(name)
    text = await asyncio.to_thread(_read, entry.path / EVALUATION)
    if text is None:
        raise APIError(
            404, f"{entry.name} was not evaluated: morphogen evaluate {in_shell(entry.path)}"
        )
    return view(text, f"{entry.name}: evaluation")


@router.post("/evaluation/{name:path}")
async def evaluate(name: str, visitor: Trains) -> Response:
    """Have it evaluated, on the data that it was trained on."""
    entry = visitor.here.entry(name)
    if entry.kind != "bundle":
        raise APIError(400, f"{entry.name} was trained elsewhere: it is evaluated by hand")
    visitor.here.looks.forget(entry.path / CONFIG)
    visitor.here.looks.at(entry.path / CONFIG, look="evaluate")
    return moved(f"/evaluating/{at(entry.name)}")


@router.get("/evaluating/{name:path}")
async def evaluating(name: str, request: Request, visitor: Trains) -> Response:
    """How far its evaluation is; where it is over, the model."""
    entry = visitor.here.entry(name)
    look = visitor.here.looks.begun(entry.path / CONFIG, look="evaluate")
    if look is None or look.found is not None:
        visitor.here.looks.forget(entry.path / CONFIG)
        return moved(f"/models/{at(entry.name)}")
    return page(request, visitor, "evaluating", entry=entry, look=look)


def _facts(entry: Entry) -> dict[str, Any]:
    config, metrics = read_json(entry.path / CONFIG), read_json(entry.path / "metrics.json")
    record = metrics.get("evaluation") or {}
    recipe = config.get("recipe") or {}
    return {
        "warnings": record.get("warnings") or [],
        "scores": [_score(name, told) for name, told in (record.get("scores") or {}).items()],
        "copying": (record.get("copying") or {}).get("reason"),
        "recipe": {name: part for name, part in recipe.items() if part},
        "data": config.get("data") or {},
        "card": _read(entry.path / CARD),
        "has_page": (entry.path / EVALUATION).is_file(),
        "has_log": (entry.path / LOG).is_file(),
    }


def _score(name: str, told: Mapping[str, Any]) -> dict[str, str]:
    """A row of the table."""
    better = {True: "high", False: "low", None: ""}
    counted = f"n = {told['n']:,}" if "n" in told else ""
    return {
        "name": name.replace("_", " "),
        "value": number(told["value"]),
        "interval": f"{number(told['low'])} to {number(told['high'])}" if "low" in told else "",
        "floor": number(told["floor"]) if "floor" in told else "",
        "better": better.get(told.get("higher_is_better"), ""),
        "note": "; ".join(filter(None, [counted, told.get("note", "")])),
    }


def number(value: float) -> str:
    """Four significant digits, as on the evaluation page."""
    return f"{value:.4g}"


def _read(file: Path) -> str | None:
    """What a file says; None where there is none, or too much."""
    try:
        if file.stat().st_size > MOST_SHOWN:
            return None
        return file.read_text(errors="replace")
    except OSError:
        return None
