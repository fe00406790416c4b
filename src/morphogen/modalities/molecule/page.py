"""Molecules for people: drawings on a page, a file of SMILES, a few words."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from morphogen.core.storage import write_text
from morphogen.core.visible import shortened
from morphogen.modalities.molecule.chemistry import drawing

GRID = "display:grid;gap:.6rem;grid-template-columns:repeat({},minmax(0,1fr))"
CARD = (
    "border:1px solid #d5dae1;border-radius:6px;background:#fff;color:#1c2733;padding:.4rem;"
    "margin:0;min-width:0"
)
WORDS = "font:11px/1.35 ui-monospace,monospace;overflow-wrap:anywhere;color:#5a6675"
BROKEN = "font:13px/1.4 system-ui,sans-serif;color:#a33;padding:1rem"
USUAL_COLUMNS = 4


def cards(molecules: Sequence[str], columns: int | None) -> str:
    """A drawing of each, with its SMILES below; of what is no molecule, that it is none."""
    found = []
    for smiles in molecules:
        drawn = drawing(smiles)
        shown = _scaled(drawn) if drawn else f'<div style="{BROKEN}">no molecule</div>'
        words = f'<figcaption style="{WORDS}">{html.escape(smiles)}</figcaption>'
        found.append(f'<figure style="{CARD}">{shown}{words}</figure>')
    return f'<div style="{GRID.format(columns or USUAL_COLUMNS)}">{"".join(found)}</div>'


def _scaled(svg: str) -> str:
    """As wide as there is room."""
    return svg.replace("<svg", '<svg style="width:100%;height:auto"', 1)


def brief(smiles: str, most: int) -> str:
    """Its SMILES, cut."""
    return shortened(smiles, most)


def write_smiles(molecules: Sequence[str], path: Path) -> Path:
    """A SMILES a line; nothing on the line of an empty one."""
    return write_text(path, "".join(f"{smiles}\n" for smiles in molecules))
