"""A comparison as one self-contained page: advice, leaderboard, sample sheets side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from morphogen.comparison.leaderboard import Leaderboard, Place
from morphogen.core.storage import write_text
from morphogen.evaluation.page import document, embedded, escaped, number

BEFORE = ("family", "value", "95 % interval", "")
AFTER = ("training", "sampling of 1,000", "memory", "parameters", "energy")


def write_comparison(out: Path, board: Leaderboard, runs: Sequence[Mapping[str, Any]]) -> Path:
    """Write comparison.html into the comparison's folder."""
    title = f"Comparison by {board.score.replace('_', ' ')}"
    others = list(dict.fromkeys(name for place in board.places for name in place.others))
    names = (*BEFORE, *others, *AFTER)
    head = "".join(f"<th>{escaped(each.replace('_', ' '))}</th>" for each in names)
    rows = "".join(_row(place, others) for place in board.places)
    parts = [
        f"<h1>{escaped(title)}</h1>",
        f'<p class="lead">{escaped(board.advice)}</p>',
        f"<table><tr>{head}</tr>{rows}</table>",
    ]
    if board.stability is not None:
        parts.append(f"<p>{escaped(board.stability.text())}</p>")
    if board.absent:
        parts.append(f"<h2>Not compared</h2>{_facts(board.absent)}")
    parts.append(f'<h2>Samples</h2><div class="pair">{_sheets(out, board, runs)}</div>')
    parts.append(f"<h2>Protocol</h2>{_facts(board.protocol)}")
    return write_text(out / "comparison.html", document(title, parts))


def _facts(facts: Mapping[str, Any]) -> str:
    cells = "".join(
        f"<tr><td>{escaped(name)}</td><td>{escaped(fact)}</td></tr>"
        for name, fact in sorted(facts.items())
    )
    return f"<table>{cells}</table>"


def _row(place: Place, others: Sequence[str]) -> str:
    notes = ["tie"] if place.tie else []
    notes += ["copies"] if place.copies else []
    cells = [
        number(place.value),
        f"{number(place.low)} to {number(place.high)}",
        ", ".join(notes),
        *(number(place.others[name]) if name in place.others else "" for name in others),
        f"{place.seconds:,.0f} s",
        f"{number(place.sampling_seconds_per_1000)} s",
        f"{place.memory_bytes / 1e6:,.0f} MB",
        f"{place.num_parameters:,}",
        f"{number(place.watt_hours)} Wh",
    ]
    shown = "".join(f'<td class="number">{escaped(cell)}</td>' for cell in cells)
    return f"<tr><td>{escaped(place.family)}</td>{shown}</tr>"


def _sheets(out: Path, board: Leaderboard, runs: Sequence[Mapping[str, Any]]) -> str:
    """The last samples of each family's first seed, best family first."""
    figures = []
    for place in board.places:
        run = next(run for run in runs if run["family"] == place.family)
        if run["sheet"] is None:
            continue
        sheet = out / "runs" / f"{run['family']}-{run['seed']}" / run["sheet"]
        figures.append(
            f"<figure><figcaption>{escaped(place.family)}</figcaption>"
            f"{embedded(sheet, place.family)}</figure>"
        )
    return "".join(figures)
