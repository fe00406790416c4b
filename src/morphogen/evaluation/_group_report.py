"""What was measured of groups, as sentences, a table and a picture; read from the record alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from morphogen.core.storage import write_atomic

NAMED = 3  # groups in a sentence
COLUMNS = {
    "share_in_training": "share in training",
    "share_in_held_out": "held out",
    "share_in_samples": "among samples",
    "share_ratio": "samples / training",
    "drawn_as_asked": "drawn as asked",
    "frechet_ratio": "distance / floor",
}
OF_DATA, OF_SAMPLES = "#888888", "#1f5fa8"
Cells = Mapping[str, Mapping[str, Any]]  # a quantity by group


def findings(label: str, told: Mapping[str, Any]) -> list[str]:
    """A sentence for every way in which groups are certainly treated differently."""
    measured: Mapping[str, Cells] = told["measured"]
    found = []
    ratios = measured.get("share_ratio", {})
    for how, is_so in (
        ("under", lambda cell: cell["high"] < 1),
        ("over", lambda cell: cell["low"] > 1),
    ):
        named = _named(ratios, is_so, lambda cell: f"{_between(cell)} times its share in training")
        found += [f"{label}: {how}-represented among samples: {named}"] if named else []
    named = _named(
        measured.get("drawn_as_asked", {}),
        lambda cell: bool(cell.get("note")),
        lambda cell: f"{cell['value']:.0%} are, of real items {cell['floor']:.0%}",
    )
    found += (
        [f"{label}: asked for, and less often drawn than it should be: {named}"] if named else []
    )
    for name, gap in told["gaps"].items():
        if gap["separate"]:
            cells = measured[name]
            ends = [f"{group}: {_between(cells[group])}" for group in (gap["worst"], gap["best"])]
            found.append(f"{label}: {_words(name)} is worst for {ends[0]}; best for {ends[1]}")
    return found


def _named(
    cells: Cells,
    is_so: Callable[[Mapping[str, Any]], bool],
    said: Callable[[Mapping[str, Any]], str],
) -> str:
    """The groups that it is so of, farthest from the rest first."""
    flagged = [(group, cell) for group, cell in cells.items() if is_so(cell)]
    middle = sum(cell["value"] for cell in cells.values()) / max(len(cells), 1)
    flagged.sort(key=lambda pair: -abs(pair[1]["value"] - middle))
    parts = [f"{group}: {said(cell)}" for group, cell in flagged[:NAMED]]
    more = [f"and {len(flagged) - NAMED} more"] if len(flagged) > NAMED else []
    return "; ".join(parts + more)


def summary(told: Mapping[str, Any]) -> list[str]:
    """What holds of all groups together."""
    said = []
    if "judge" in told:
        judge = told["judge"]
        said.append(
            f"The groups of samples are as a {judge['name']} sees them, right for "
            f"{judge['accuracy']:.1%} of {judge['num_held_out']:,} held-out items; shares are "
            "corrected for its mistakes."
        )
    if "total_variation" in told:
        distance, test = told["total_variation"], told["test"]
        said.append(
            f"{distance['value']:.1%} ({distance['low']:.1%} to {distance['high']:.1%}) of the "
            "samples would have to be of another group to have the shares of the training items; "
            f"of held-out items {distance['floor']:.1%}. Chi-square {test['chi_square']:.1f} with "
            f"{test['freedom']} degrees of freedom, p = {test['p_value']:.2g}."
        )
    if told["measured"]:
        said.append(f"Intervals: {told['interval']}.")
    return said + [f"Note: {note}." for note in told["notes"]]


def table(told: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(head, a row per group): every quantity with its interval, and its floor where it has one."""
    measured: Mapping[str, Cells] = told["measured"]
    names = [name for name in COLUMNS if name in measured]
    names += [name for name in measured if name not in COLUMNS]
    groups = list(dict.fromkeys(group for cells in measured.values() for group in cells))
    rows = [
        [group] + [_cell(name, measured[name].get(group)) for name in names] for group in groups
    ]
    return ["group", *(COLUMNS.get(name, _words(name)) for name in names)], rows


def _cell(name: str, cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "not measured"
    if name.startswith("share_in") or name in ("drawn_as_asked", "accuracy"):
        text = f"{cell['value']:.1%} ({cell['low']:.1%} to {cell['high']:.1%})"
        return text + (f", real {cell['floor']:.1%}" if name == "drawn_as_asked" else "")
    return _between(cell)


def draw(told: Mapping[str, Any], picture: Path) -> Path | None:
    """Bars with intervals and floors, a panel per quantity; None where nothing was measured."""
    measured: Mapping[str, Cells] = told["measured"]
    shares = [
        ("share_in_training", OF_DATA, "training"),
        ("share_in_samples", OF_SAMPLES, "samples"),
    ]
    panels: list[tuple[str, list[tuple[Cells, str, str]]]] = [
        (
            "share",
            [(measured[name], colour, who) for name, colour, who in shares if name in measured],
        )
    ]
    others = [name for name in measured if not name.startswith("share")]
    panels += [(COLUMNS.get(n, _words(n)), [(measured[n], OF_SAMPLES, "")]) for n in others]
    if not measured:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = list(measured["share_in_training"])
    size = (2.6 * len(panels) + 1.2, 0.28 * len(groups) + 1)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    for place, (title, bars) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), place)
        _bars(axes, groups, bars)
        axes.set_title(title, fontsize=9)
        axes.set_yticks(range(len(groups)), groups if place == 1 else [""] * len(groups))
        axes.tick_params(labelsize=7)
        axes.grid(axis="x", alpha=0.25)
        axes.invert_yaxis()
    return write_atomic(picture, lambda path: figure.savefig(path, dpi=110, format="png"))


def _bars(axes: Any, groups: Sequence[str], bars: Sequence[tuple[Cells, str, str]]) -> None:
    height = 0.8 / len(bars)
    for number, (cells, colour, who) in enumerate(bars):
        own = [(i, cells[group]) for i, group in enumerate(groups) if group in cells]
        values = [cell["value"] for _, cell in own]
        ends = [
            [max(0.0, cell["value"] - cell["low"]) for _, cell in own],
            [max(0.0, cell["high"] - cell["value"]) for _, cell in own],
        ]
        at = [i + (number - (len(bars) - 1) / 2) * height for i, _ in own]
        line = {"elinewidth": 0.8, "capsize": 1.5}
        axes.barh(at, values, height, xerr=ends, color=colour, alpha=0.7, label=who, error_kw=line)
        floors = [
            (cell["floor"], y) for y, (_, cell) in zip(at, own, strict=True) if "floor" in cell
        ]
        for floor, y in floors:
            axes.plot(floor, y, marker="|", markersize=9, color="#b03020")
    if len(bars) > 1:
        axes.legend(fontsize=7, frameon=False, ncol=2, loc="upper left", bbox_to_anchor=(0, -0.1))


def _between(cell: Mapping[str, Any]) -> str:
    return f"{cell['value']:.3g} ({cell['low']:.3g} to {cell['high']:.3g})"


def _words(name: str) -> str:
    return name.replace("_", " ")
