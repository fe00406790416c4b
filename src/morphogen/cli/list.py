"""`morphogen list families`: the components that there are."""

from __future__ import annotations

from typing import Annotated

import typer


def list_(
    axis: Annotated[str | None, typer.Argument(help="families, backbones, tasks, ...")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List the axes, or the components of one."""
    from morphogen.cli._parts import print_json, print_table
    from morphogen.core import discover

    if axis is None:
        rows = [(folder, ", ".join(discover.names(name))) for name, folder in discover.AXES.items()]
    else:
        rows = [
            (name, discover.summary(discover.find(axis, name))) for name in discover.names(axis)
        ]
    if as_json:
        print_json(dict(rows))
        return
    print_table(rows)
