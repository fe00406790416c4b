"""`morphogen evaluate models/boots`: how good it is, beside the floor that real data reaches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer


def evaluate(
    bundle: Annotated[str, typer.Argument(help="folder of a trained bundle, or of an index")],
    *,
    data: Annotated[
        str | None,
        typer.Option(
            help="default: the data it was trained on; of an index: questions, JSON lines"
        ),
    ] = None,
    num: Annotated[
        int, typer.Option("--num", "-n", min=2, help="how many samples, at most")
    ] = 10_000,
    seed: Annotated[int, typer.Option(help="same seed, same score")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps")] = "cpu",
    group: Annotated[
        list[str] | None,
        typer.Option(help="label to look for bias by, may be repeated; default: all there are"),
    ] = None,
    gate: Annotated[
        str | None, typer.Option(help="TOML file of demands; exit code 1 if one is not met")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="a model from elsewhere that embeds such items, or one of pairs"),
    ] = None,
    reader: Annotated[
        str | None, typer.Option(help="of an index: who finds the words that answer")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="import components it names")] = False,
) -> None:
    """Score a bundle against held-out data, or an index by questions whose answers are known."""
    from morphogen.core.bundle import Bundle
    from morphogen.evaluation.evaluate import evaluate as score
    from morphogen.evaluation.gate import failures, read_gate
    from morphogen.interop.importing import opened_or_imported
    from morphogen.records.recording import evaluated, recording
    from morphogen.systems.knowledge import stores

    demands = read_gate(gate) if gate else {}
    if stores.exists(bundle):
        record = _of_index(bundle, data, reader)
        _tell(record, failures(record, demands), None, as_json=as_json, gated=bool(gate))
        return
    opened = Bundle.open(bundle, trust=trust, device=device)
    other = opened_or_imported(judge) if judge else None
    record = score(opened, data, num=num, seed=seed, groups=group, judge=other)
    missed = failures(record, demands)
    with recording() as records:
        met = {"file": gate, "demands": demands, "missed": missed} if gate else None
        evaluated(records, opened, record, met)
    _tell(record, missed, opened.path, as_json=as_json, gated=bool(gate))


def _of_index(index: str, data: str | None, reader: str | None) -> dict[str, Any]:
    """The record of an index."""
    from functools import partial

    from morphogen.core.errors import RecipeError
    from morphogen.systems.knowledge.answering import answer
    from morphogen.systems.knowledge.evaluating import evaluate
    from morphogen.systems.knowledge.index import Index
    from morphogen.systems.knowledge.questions import read_questions
    from morphogen.systems.knowledge.reader import Reader

    if data is None:
        raise RecipeError("an index is judged by questions", hint="--data questions.jsonl")
    read = None if reader is None else Reader.open(reader)
    return evaluate(Index.open(index), read_questions(data), ask=partial(answer, reader=read))


def _tell(
    record: Mapping[str, Any], missed: list[str], path: Any, *, as_json: bool, gated: bool
) -> None:
    """Print a record; exit code 1 where a demand was not met."""
    from morphogen.cli._parts import print_json, print_table

    if as_json:
        print_json({**record, "gate": missed} if gated else record)
    else:
        print_table(list(_rows(record)))
        if copying := record.get("copying"):
            print(f"copying: {copying['verdict']}: {copying['reason']}")
        for told in record.get("groups", {}).values():
            for finding in told["findings"]:
                print(f"groups: {finding}")
        for warning in record.get("warnings", []):
            print(f"note: {warning}")
        if path is not None:
            print(f"page: {path}/evaluation.html")
        for line in missed:
            print(f"gate: {line}")
    if missed:
        raise typer.Exit(1)


def _rows(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, value, how it is to be read) for every score of an evaluation."""
    from morphogen.cli._parts import number

    rows = []
    for name, score in record["scores"].items():
        said = [f"{number(score['low'])} to {number(score['high'])}"] if "low" in score else []
        said += [f"real data {number(score['floor'])}"] if "floor" in score else []
        said += [f"n = {score['n']:,}"]
        said += [score["note"]] if score.get("note") else []
        rows.append((name.replace("_", " "), number(score["value"]), ", ".join(said)))
    return rows
