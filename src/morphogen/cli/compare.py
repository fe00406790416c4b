"""`morphogen compare photos/ --budget 5m --seeds 3`: which family is best for this data?"""

from __future__ import annotations

from typing import Annotated

import typer


def compare(
    source: Annotated[str, typer.Argument(help="the data: a folder or a file")],
    *,
    families: Annotated[
        list[str] | None,
        typer.Option(
            "--family", help="only these, such as vae or vq_vae+autoregressive; repeatable"
        ),
    ] = None,
    budget: Annotated[str, typer.Option(help="of each run: 90s, 10m, 5000steps")] = "5m",
    seeds: Annotated[
        int, typer.Option(min=1, help="runs of each family; more add to those in --out")
    ] = 3,
    out: Annotated[str, typer.Option(help="folder of the comparison")] = "comparison",
    num: Annotated[int, typer.Option(min=20, help="how many samples are judged")] = 10_000,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="table.option=value, for all; repeatable")
    ] = None,
    early_stop: Annotated[
        bool, typer.Option("--early-stop", help="send home who is hopeless after a quarter")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="runs at once on this machine")] = 1,
    on: Annotated[str, typer.Option(help="local, ray, or a cluster: ray://host:10001")] = "local",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Train every family that fits, evenly, and rank them."""
    from contextlib import nullcontext

    from morphogen.cli._parts import number, print_json, print_table
    from morphogen.cli._progress import comparison_progress
    from morphogen.comparison.compare import compare as run

    with nullcontext() if as_json else comparison_progress() as progress:
        board = run(
            source, families=families, budget=budget, seeds=seeds, out=out, num=num,
            settings=settings or (), early_stop=early_stop, workers=workers, on=on,
            on_standing=progress or (lambda standing: None),
        )  # fmt: skip
    if as_json:
        print_json(board.to_json())
        return
    print_table(
        [("family", board.score.replace("_", " "), "95 % interval", "sampling", "")]
        + [
            (
                place.family,
                number(place.value),
                f"{number(place.low)} to {number(place.high)}",
                f"{number(place.sampling_seconds_per_1000)} s per 1,000",
                "tie with the best" if place.tie else "",
            )
            for place in board.places
        ]
    )
    for family, reason in sorted(board.absent.items()):
        print(f"not compared: {family}: {reason}")
    print(board.advice)
    if board.stability is not None:
        print(board.stability.text())
    print(f"page: {out}/comparison.html")
