"""`morphogen teach prompts.jsonl --by models/large --out taught.jsonl`."""

from __future__ import annotations

from typing import Annotated

import typer


def teach(
    prompts: Annotated[str, typer.Argument(help="rows with prompts, or a text of one a line")],
    *,
    by: Annotated[str, typer.Option(help="bundle, or an address: http://localhost:8000/v1")],
    out: Annotated[str, typer.Option(help="file of the conversations, JSON lines")],
    name: Annotated[str | None, typer.Option(help="its name, at an address")] = None,
    system: Annotated[str | None, typer.Option(help="what the teacher is told first")] = None,
    most: Annotated[int | None, typer.Option(min=1, help="tokens of an answer at most")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="0: the most probable")] = None,
    key_from: Annotated[
        str, typer.Option(help="environment variable with the key of an address")
    ] = "OPENAI_API_KEY",
) -> None:
    """Let a model answer prompts, for another one to learn from."""
    from collections.abc import Sequence

    from morphogen.systems.teaching import teach as run

    def show(number: int, asked: Sequence[object], answer: str) -> None:
        print(f"{number:>5,}  {' '.join(answer.split())[:90]}")

    found = run(
        prompts, by, out, model=name, system=system, most=most, temperature=temperature,
        key_from=key_from, on_answer=show,
    )  # fmt: skip
    print(found.text())
