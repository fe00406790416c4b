"""`morphogen whence picture.png`: where it comes from, or what it went into."""

from __future__ import annotations

from typing import Annotated

import typer


def whence(
    subject: Annotated[
        str, typer.Argument(help="a file, a bundle, or an item of data: told.csv#row 12")
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Tell all that is known of a file: who made it, from what; or who learned it."""
    from morphogen.cli._parts import print_found
    from morphogen.cli._records import opened
    from morphogen.records.whence import whence as search

    with opened() as (records, _):
        print_found(search(records, subject), as_json)
