"""`morphogen ask indexes/handbook "What is the notice period?"`."""

from __future__ import annotations

from typing import Annotated

import typer


def ask(
    index: Annotated[str, typer.Argument(help="folder of an index")],
    question: Annotated[str, typer.Argument(help="what is asked")],
    *,
    model: Annotated[
        str | None,
        typer.Option(help="who writes the answer: a bundle, an address; none: it is quoted"),
    ] = None,
    reader: Annotated[
        str | None, typer.Option(help="who finds the words that answer: morphogen learn reader")
    ] = None,
    name: Annotated[str | None, typer.Option(help="the model's name, at an address")] = None,
    groups: Annotated[
        list[str] | None, typer.Option("--as", help="group that asks; everyone, if none is named")
    ] = None,
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="passages that are read")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Answer from documents, each sentence with its source; or say that they do not say."""
    from morphogen.cli._parts import print_json
    from morphogen.systems.knowledge.answering import answer
    from morphogen.systems.knowledge.index import Index
    from morphogen.systems.knowledge.reader import Reader
    from morphogen.systems.knowledge.writers import writer_of

    writer = None if model is None else writer_of(model, name)
    read = None if reader is None else Reader.open(reader)
    told = answer(
        Index.open(index), question, groups=groups or (), writer=writer, reader=read, num=num
    )
    if as_json:
        print_json(told.to_json())
        return
    print(" ".join(told.text.split()))
    for verdict in told.verdicts:
        if verdict.supported and verdict.quote is not None:
            where = told.hits[verdict.quote.passage].passage.where
            print(f'  "{" ".join(verdict.quote.text.split())}"\n    {where}')
        else:
            print(f"  not supported: {verdict.sentence}\n    {'; '.join(verdict.why_not)}")
