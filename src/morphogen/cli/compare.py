"""`morphogen compare photos/ --budget 5m --seeds 3`: which family is best for this data?

`morphogen compare models/base models/mine --data heldout.jsonl --judge chrf`: which model is?
"""

from __future__ import annotations

from typing import Annotated, Any

import typer


def compare(
    sources: Annotated[
        list[str], typer.Argument(help="the data, a folder or a file; with --judge, bundles")
    ],
    *,
    data: Annotated[
        str | None, typer.Option(help="with --judge: held-out data whose prompts all answer")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="of models: module:function, chrf unless told, bleu, rouge_l, votes, or a file of "
            "votes"
        ),
    ] = None,
    most: Annotated[
        int | None, typer.Option(min=1, help="with --judge: tokens of an answer at most")
    ] = None,
    seed: Annotated[int, typer.Option(help="with --judge: same seed, same answers")] = 0,
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
    num: Annotated[
        int | None,
        typer.Option(
            "--num",
            "-n",
            min=2,
            help="samples that are judged, 10,000 unless told; or prompts, 100",
        ),
    ] = None,
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
    """Train every family that fits, evenly, and rank them; or judge models that are there."""
    from contextlib import nullcontext

    if judge is not None or data is not None or len(sources) > 1:
        _judged(sources, data, judge, num=num, most=most, seed=seed, out=out, as_json=as_json)
        return

    from morphogen.cli._parts import number, print_json, print_table
    from morphogen.cli._progress import comparison_progress
    from morphogen.comparison.compare import compare as run
    from morphogen.records.recording import compared

    read: list[Any] = []
    with nullcontext() if as_json else comparison_progress() as progress:
        board = run(
            sources[0], families=families, budget=budget, seeds=seeds, out=out, num=num or 10_000,
            settings=settings or (), early_stop=early_stop, workers=workers, on=on,
            on_standing=progress or (lambda standing: None), on_data=read.append,
        )  # fmt: skip
    compared(sources[0], read[0], out)
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
                {"tie": "tie with the best", "best": ""}.get(place.standing, place.standing),
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


def _judged(
    bundles: list[str],
    data: str | None,
    judge: str | None,
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Say how often each model is better than the first."""
    import sys

    from morphogen.cli._parts import print_json, print_table
    from morphogen.comparison.judging import compare_models
    from morphogen.core import discover
    from morphogen.core.errors import RecipeError
    from morphogen.records.recording import did

    if data is None:
        raise RecipeError(
            "models are compared by a judge, on data", found=", ".join(bundles),
            expected="--data heldout.jsonl --judge chrf",
            hint="morphogen compare DATA, one of it, trains families and ranks them",
        )  # fmt: skip
    if judge is None:
        judge = "chrf"
        print("judge: chrf, how alike an answer is to that of the data (others: --judge)",
              file=sys.stderr)  # fmt: skip
    discover.vouch(judge)
    found = compare_models(
        bundles, data, judge, ask=_vote if sys.stdin.isatty() else None,
        on_answers=lambda model, num: print(f"{model}: {num} answers", file=sys.stderr), **options,
    )  # fmt: skip
    did("compare", data, made=[options["out"]], facts={"models": bundles, **found.to_json()})
    if as_json:
        print_json(found.to_json())
        return
    rows = [
        (each.model, f"{each.rate:.0%}", f"{each.low:.0%} to {each.high:.0%}",
         f"{each.wins} won, {each.ties} tied, {each.losses} lost", each.verdict)
        for each in found.rates
    ]  # fmt: skip
    print(f"against {found.against}, by {judge}, on {found.protocol['items']} of {data}")
    print_table([("model", "win rate", "95 % interval", "pairs", ""), *rows])
    print(f"answers: {options['out']}/answers.jsonl")


def _vote(prompt: str | None, first: str, second: str) -> int | None:
    """Ask a person; None where they have had enough."""
    print(f"\n--- {prompt or ''}\n[1] {first.strip()}\n\n[2] {second.strip()}")
    while True:
        try:
            told = input("better: 1, 2, or 0 for a tie (empty: later) > ").strip()
        except EOFError:
            return None
        if told in ("0", "1", "2"):
            return int(told)
        if not told:
            return None
