"""`morphogen card models/boots`: write a bundle's card, README.md, from its own records."""

from __future__ import annotations

from typing import Annotated

import typer


def card(
    bundle: Annotated[str, typer.Argument(help="folder of a trained bundle")],
    trust: Annotated[bool, typer.Option("--trust", help="import components it names")] = False,
) -> None:
    """Write a model card from what was recorded and measured."""
    from morphogen.evaluation.card import write_card

    print(write_card(bundle, trust=trust))
