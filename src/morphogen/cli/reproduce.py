"""`morphogen reproduce models/boots`: train it again from its record; is it the same model?"""

from __future__ import annotations

from typing import Annotated, Any

import typer


def reproduce(
    bundle: Annotated[str, typer.Argument(help="folder of a trained bundle")],
    *,
    data: Annotated[str | None, typer.Option(help="where its data lies now, if elsewhere")] = None,
    out: Annotated[str | None, typer.Option(help="folder to train into; default: -again")] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="by which weights may differ, relative to the largest")
    ] = 1e-3,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what differs from the record; train nothing")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="import components it names")] = False,
) -> None:
    """Train a bundle again from its record; exit code 1 if another model comes out."""
    from contextlib import ExitStack

    from morphogen.cli._parts import print_found
    from morphogen.cli._progress import training_progress
    from morphogen.comparison.reproduce import reproduce as train_again
    from morphogen.comparison.reproduction import Reproduction
    from morphogen.core.bundle import Bundle
    from morphogen.training.loop import Log

    opened = Bundle.open(bundle, trust=trust)
    screens: list[Any] = []
    with ExitStack() as stack:

        def start(found: Reproduction) -> None:
            if found.data is None and not (as_json or dry_run):
                print(found.text())
                screens.append(stack.enter_context(training_progress()))

        def show(log: Log) -> None:
            for screen in screens:
                screen(log)

        found = train_again(
            opened, data=data, out=out, tolerance=tolerance, dry_run=dry_run, on_start=start,
            on_log=show,
        )  # fmt: skip
    print_found(found, as_json)
    if found.verdict == "different":
        raise typer.Exit(1)
