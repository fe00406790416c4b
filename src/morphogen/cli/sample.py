"""`morphogen sample models/boots -n 64 --out grid.png`: draw new items."""

from __future__ import annotations

from typing import Annotated

import typer


def sample(
    bundle: Annotated[str, typer.Argument(help="folder of a trained bundle")],
    *,
    num: Annotated[int, typer.Option("-n", "--num", min=1, help="how many items")] = 16,
    out: Annotated[str, typer.Option(help="where the items go")] = "samples.png",
    seed: Annotated[int, typer.Option(help="same seed, same items")] = 0,
    label: Annotated[
        str | None, typer.Option(help="class, by name: short for --cond label=")
    ] = None,
    cond: Annotated[list[str] | None, typer.Option(help="condition, name=value")] = None,
    guidance: Annotated[float | None, typer.Option(help="strength; 1 is none")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="option=value, such as num_steps=10")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps")] = "cpu",
    trust: Annotated[bool, typer.Option("--trust", help="import components it names")] = False,
) -> None:
    """Draw new items from a trained bundle."""
    from morphogen.cli._parts import parse_pairs
    from morphogen.core.bundle import Bundle

    opened = Bundle.open(bundle, trust=trust, device=device)
    options = parse_pairs(settings or [], "--set")
    if guidance is not None:
        options["guidance"] = str(guidance)
    conditions = parse_pairs(cond or [], "--cond")
    if label is not None:
        conditions["label"] = label
    result = opened.sample(num, seed=seed, cond=conditions, **options)
    print(f"{len(result)} items ({result.route}) in {result.save(out)}")
