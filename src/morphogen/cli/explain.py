"""`morphogen explain models/bard "To be or not to be"`: what a model makes of a text, as a page."""

from __future__ import annotations

from typing import Annotated

import typer


def explain(
    bundle: Annotated[str, typer.Argument(help="folder of a trained bundle")],
    text: Annotated[str, typer.Argument(help="the text itself")],
    *,
    out: Annotated[str, typer.Option(help="the page")] = "explanation.html",
    cond: Annotated[list[str] | None, typer.Option(help="condition, name=value")] = None,
    alternatives: Annotated[int, typer.Option(min=1, help="other tokens told at each")] = 8,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps")] = "cpu",
    trust: Annotated[bool, typer.Option("--trust", help="import components it names")] = False,
) -> None:
    """Show what a model expected at each token of a text, and what it looked at."""
    from morphogen.cli._parts import parse_pairs
    from morphogen.core.bundle import Bundle
    from morphogen.evaluation.explanation import write_explanation

    opened = Bundle.open(bundle, trust=trust, device=device)
    conditions = parse_pairs(cond or [], "--cond")
    path = write_explanation(opened, text, out, cond=conditions, num_alternatives=alternatives)
    print(f"{path}: open it in a browser")
