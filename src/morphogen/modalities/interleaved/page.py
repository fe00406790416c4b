"""Items of several parts for people: a card for each."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

STYLE = (
    "article{border:1px solid #8884;border-radius:.4rem;padding:.5rem}article p{margin:.2rem 0}"
    "article h4{margin:.2rem 0;font:600 .75rem system-ui;opacity:.6}"
)
Show = Callable[[str, Any], str]  # the name of a part and its value -> a piece of a page


def cards(values: Sequence[Mapping[str, Any]], show: Show, columns: int | None = None) -> str:
    """Each item as a card that shows its parts under their names."""
    many = "repeat(auto-fill,minmax(min(11rem,100%),1fr))"
    across = f"repeat({columns},minmax(0,1fr))" if columns else many
    drawn = "".join(f"<article>{_parts(value, show)}</article>" for value in values)
    return (
        f"<style>{STYLE}</style>"
        f'<div style="display:grid;gap:.75rem;grid-template-columns:{across}">{drawn}</div>'
    )


def _parts(value: Mapping[str, Any], show: Show) -> str:
    return "".join(f"<h4>{html.escape(name)}</h4>{show(name, own)}" for name, own in value.items())
