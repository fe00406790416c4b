"""`morphogen evaluate models/boots`: how good it is, beside the floor that real data reaches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer


def evaluate(
    bundle: Annotated[str, typer.Argument(help="folder of a trained bundle")],
    *,
    data: Annotated[str | None, typer.Option(help="default: the data it was trained on")] = None,
    num: Annotated[int, typer.Option(min=2, help="how many samples, at most")] = 10_000,
    seed: Annotated[int, typer.Option(help="same seed, same score")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="import components it names")] = False,
) -> None:
    """Score a bundle against held-out data."""
    from morphogen.cli._parts import print_json, print_table
    from morphogen.core.bundle import Bundle
    from morphogen.evaluation.evaluate import evaluate as score

    opened = Bundle.open(bundle, trust=trust, device=device)
    record = score(opened, data, num=num, seed=seed)
    if as_json:
        print_json(record)
        return
    print_table(list(_rows(record)))
    for warning in record.get("warnings", []):
        print(f"note: {warning}")
    print(f"page: {opened.path}/evaluation.html")


def _rows(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, value, how it is to be read) for every score of an evaluation."""
    from morphogen.cli._parts import number

    rows = []
    if scores := record.get("frechet"):
        protocol = record["protocol"]
        num, held_out = protocol["num_generated"], protocol["num_reference"]
        against = f"n = {num:,} against {held_out:,} held-out items"
        rows.append(("frechet distance", number(scores["distance"]), against))
        rows.append(("floor", number(scores["floor"]), "training items in place of samples"))
        if scores["ratio"] is not None:
            low, high = (number(value) for value in scores.get("ratio_interval", (0, 0)))
            interval = f", 95 % interval {low} to {high}" if "ratio_interval" in scores else ""
            rows.append(("ratio", number(scores["ratio"]), f"1 is the floor{interval}"))
    for name, extra in {
        "bits_per_dim": "log_prob_is",
        "reconstruction_error": "unit",
        "accuracy": "target",
        "absolute_error": "target",
    }.items():
        if score := record.get(name):
            note = f"{score[extra]}, n = {score['n']:,}"
            rows.append((name.replace("_", " "), number(score["value"]), note))
    return rows
