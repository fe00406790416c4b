"""`morphogen inspect photos/`: what is in a data source, and what is wrong with it."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def inspect(
    source: Annotated[str, typer.Argument(help="a folder, a file, or hf://NAME")],
    *,
    modality: Annotated[
        str | None, typer.Option(help="read it as this; default: found out")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="how it is read: modality.option=value")
    ] = None,
    condition: Annotated[
        str | None, typer.Option(help="what is to be learned with the items, such as caption")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Say what is in the data, and what is wrong."""
    from morphogen.cli._parts import print_found, reading_options
    from morphogen.data.inspect import inspect as inspect_source

    options: dict[str, Any] = reading_options(settings)
    if condition is not None:
        options["conditions"] = condition
    found = inspect_source(source, modality, **options)
    print_found(found, as_json)
    if found.error is not None:
        raise typer.Exit(1)
