"""`morphogen search indexes/handbook "notice period"`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def search(
    index: Annotated[str, typer.Argument(help="folder of an index")],
    question: Annotated[str, typer.Argument(help="what is looked for")],
    *,
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="passages")] = 5,
    groups: Annotated[
        list[str] | None, typer.Option("--as", help="group that asks; everyone, if none is named")
    ] = None,
    by: Annotated[
        Literal["both", "words", "meaning"], typer.Option(help="what is compared")
    ] = "both",
    rerank: Annotated[
        str | None, typer.Option(help="a reader that orders the first: morphogen learn reranker")
    ] = None,
    feedback: Annotated[
        int, typer.Option(min=0, help="look twice: move towards the first so many passages")
    ] = 0,
    place: Annotated[str | None, typer.Option(help="only in such places: handbook/*.pdf")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Find passages, with where they stand and why they were found."""
    from morphogen.cli._parts import print_json
    from morphogen.systems.knowledge.index import Index
    from morphogen.systems.knowledge.reader import Reader
    from morphogen.systems.knowledge.storing import Where

    hits = Index.open(index).search(
        question, num=num, groups=groups or (), by=by, feedback=feedback,
        rerank=None if rerank is None else Reader.open(rerank).scores,
        where=Where(place),
    )  # fmt: skip
    if as_json:
        print_json([hit.to_json() for hit in hits])
        return
    for number, hit in enumerate(hits, 1):
        passage = hit.passage
        print(f"{number}. {passage.where}, characters {passage.start:,} to {passage.end:,}")
        print(f"   {hit.reason()}")
        print("   " + " ".join(passage.text.split())[:400])
    if not hits:
        print("nothing was found")
