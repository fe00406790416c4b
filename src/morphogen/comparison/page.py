"""A comparison as one self-contained page: advice, leaderboard, sample sheets side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from morphogen.comparison.chart import Bar, chart
from morphogen.comparison.leaderboard import Leaderboard
from morphogen.core.storage import write_text
from morphogen.evaluation.page import document, embedded, escaped, number, table

MEASURED = ("training", "sampling of 1,000", "memory", "parameters", "energy")
BETTER = {True: "higher is better", False: "lower is better"}


def write_comparison(out: Path, board: Leaderboard, runs: Sequence[Mapping[str, Any]]) -> Path:
    """Write comparison.html into the comparison's folder: the answer, the pictures, then numbers,
    what they cost, and how they were made."""
    score = board.score.replace("_", " ")
    title = f"Comparison by {score}"
    parts = [f"<h1>{escaped(title)}</h1>", f'<p class="lead">{escaped(board.advice)}</p>']
    if sheets := _sheets(out, board, runs):
        parts.append(f'<h2>Samples, best first</h2><div class="pair">{sheets}</div>')
    if board.places:
        said = f"{score}, {BETTER[board.higher_is_better]}"
        bars = [Bar(place.family, place.value, place.low, place.high) for place in board.places]
        parts.append(f"<h2>{escaped(said.capitalize())}, with 95 % intervals</h2>")
        parts.append(chart(bars, said) + _places(board))
    if board.stability is not None:
        parts.append(f"<p>{escaped(board.stability.text())}</p>")
    if board.places:
        parts.append(f"<h2>What else was measured</h2>{_measured(board)}")
    if board.absent:
        parts.append(f"<h2>Not compared</h2>{_facts(board.absent)}")
    parts.append(f"<h2>Protocol</h2>{_facts(board.protocol)}")
    return write_text(out / "comparison.html", document(title, parts))


def _facts(facts: Mapping[str, Any]) -> str:
    cells = "".join(
        f"<tr><td>{escaped(name)}</td><td>{escaped(fact)}</td></tr>"
        for name, fact in sorted(facts.items())
    )
    return table(cells)


def _places(board: Leaderboard) -> str:
    """The order, and who can be told from the best."""
    rows = [
        [
            (place.family, ""),
            (number(place.value), "number"),
            (f"{number(place.low)} to {number(place.high)}", "number"),
            (f"{place.num_seeds}", "number"),
            (", ".join([place.standing, *["copies"] * place.copies]), ""),
        ]
        for place in board.places
    ]
    return _table(("family", "value", "95 % interval", "seeds", ""), rows)


def _measured(board: Leaderboard) -> str:
    """Scores that do not decide, and what each family cost."""
    others = list(dict.fromkeys(name for place in board.places for name in place.others))
    rows = []
    for place in board.places:
        cells = [
            *(number(place.others[name]) if name in place.others else "" for name in others),
            f"{place.seconds:,.0f} s",
            f"{number(place.sampling_seconds_per_1000)} s",
            f"{place.memory_bytes / 1e6:,.0f} MB",
            f"{place.num_parameters:,}",
            f"{number(place.watt_hours)} Wh",
        ]
        rows.append([(place.family, ""), *((cell, "number") for cell in cells)])
    return _table(("family", *others, *MEASURED), rows)


def _table(names: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Cells with their classes."""
    head = "".join(f'<th scope="col">{escaped(each.replace("_", " "))}</th>' for each in names)
    lines = [
        "".join(f'<td class="{kind}">{escaped(cell)}</td>' for cell, kind in row) for row in rows
    ]
    return table("".join(f"<tr>{line}</tr>" for line in (head, *lines)))


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
