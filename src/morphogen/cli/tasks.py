"""`morphogen tasks models/boots`: what can be done with a model, and why the rest cannot."""

from __future__ import annotations

from typing import Annotated

import typer


def tasks(
    bundle: Annotated[str, typer.Argument(help="folder of a bundle, or of a published model")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="import components it names")] = False,
) -> None:
    """Say which tasks apply, and why the rest does not."""
    from morphogen.cli._parts import print_json, print_table
    from morphogen.core import discover
    from morphogen.interop.importing import opened_or_imported

    reasons = opened_or_imported(bundle, trust=trust).tasks()
    if as_json:
        print_json(reasons)
        return
    applies = [name for name, reason in reasons.items() if reason is None]
    print("applies")
    print_table(
        [(name, discover.summary(discover.find("task", name))) for name in applies], indent="  "
    )
    if len(applies) < len(reasons):
        print("does not apply")
        print_table([(name, why) for name, why in reasons.items() if why], indent="  ")
