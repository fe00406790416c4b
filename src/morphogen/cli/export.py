"""`morphogen export models/letters --to letters-llama`: a language model as others run it."""

from __future__ import annotations

from typing import Annotated

import typer


def export(
    bundle: Annotated[str, typer.Argument(help="folder of a trained bundle")],
    *,
    to: Annotated[str, typer.Option("--to", help="folder to write, empty or not there yet")],
    format: Annotated[
        str, typer.Option("--format", help="transformers, which vLLM reads as well")
    ] = "transformers",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="import components it names")] = False,
) -> None:
    """Write a language model in the layout of Llama and its like."""
    from morphogen.cli._parts import print_found
    from morphogen.interop.export import export as write

    print_found(write(bundle, to, format=format, trust=trust), as_json)
