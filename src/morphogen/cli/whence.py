"""`morphogen whence picture.png`: where it comes from, or what it went into."""

from __future__ import annotations

from typing import Annotated

import typer


def whence(
    subject: Annotated[
        str, typer.Argument(help="a file, a bundle, or an item of data: told.csv#row 12")
    ],
    *,
    model: Annotated[
        list[str] | None,
        typer.Option(help="a bundle that may have written a text: its words are looked at"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Tell all that is known of a file: who made it, from what; or who learned it."""
    from morphogen.cli._parts import print_found
    from morphogen.cli._records import check_installed
    from morphogen.records.recording import recording

    check_installed()
    from morphogen.records.whence import whence as search

    with recording() as records:
        print_found(search(records, subject, models=model or ()), as_json)
