"""`morphogen trace runs.jsonl --must search_handbook`: what an agent did, and the verdict."""

from __future__ import annotations

from typing import Annotated

import typer


def trace(
    file: Annotated[str, typer.Argument(help="what `morphogen chat --trace` wrote")],
    *,
    out: Annotated[str | None, typer.Option(help="write it as a page; several: numbered")] = None,
    must: Annotated[
        list[str] | None, typer.Option(help="tool that has to have done its work; repeatable")
    ] = None,
    never: Annotated[
        list[str] | None, typer.Option(help="tool that may not have been run; repeatable")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Replay runs from their trace, and judge them by what was done in them. Exit code 1 where one
    does not come out the same, or missed what was asked for.
    """
    from pathlib import Path

    from morphogen.cli._parts import print_json
    from morphogen.core.border import read_text
    from morphogen.core.errors import BundleError
    from morphogen.systems.agents.page import write_page
    from morphogen.systems.agents.trace import traces
    from morphogen.systems.agents.verdict import verdict
    from morphogen.systems.agents.worlds import replay

    runs, told, missed = traces(read_text(Path(file)), file), [], 0
    for number, each in enumerate(runs, 1):
        if replay(each).text() != each.text():
            raise BundleError(
                "the run does not come out as it is written", found=f"run {number}", where=file,
                hint="the trace was changed, or the rule that calls are judged by was",
            )  # fmt: skip
        found = verdict(each, must=must or (), never=never or ())
        missed += bool(found.missed)
        told.append({"task": each.began.task, "digest": each.digest, **found.to_json()})
        if out is not None:
            page = Path(out)
            page = page if len(runs) == 1 else page.with_stem(f"{page.stem}-{number}")
            write_page(each, page, found)
        if not as_json:
            print(f"{' '.join(each.began.task.split())[:100]}\n{found.text()}\n")
    if as_json:
        print_json(told)
    if missed:
        raise typer.Exit(1)
