"""`morphogen pack models/boots`: what is safe to give away, and what it tells of the data."""

from __future__ import annotations

from typing import Annotated

import typer


def pack(
    bundle: Annotated[str, typer.Argument(help="folder of a trained bundle")],
    *,
    out: Annotated[str | None, typer.Option(help="archive; default: the bundle's name.zip")] = None,
    items: Annotated[
        bool, typer.Option("--items", help="with the evaluation page, which shows real items")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="import components it names")] = False,
) -> None:
    """Pack a bundle to give away; list what it holds of the data."""
    from morphogen.cli._parts import print_found
    from morphogen.evaluation.pack import pack as write

    print_found(write(bundle, out, items=items, trust=trust), as_json)
