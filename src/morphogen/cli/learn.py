"""`morphogen learn embedder indexes/handbook --out models/mine`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from morphogen.core.visible import in_shell


def learn(
    what: Annotated[
        Literal["embedder", "reader", "reranker"], typer.Argument(help="what is to be learned")
    ],
    index: Annotated[str, typer.Argument(help="folder of an index")],
    *,
    out: Annotated[str, typer.Option(help="folder of what was learned")],
    data: Annotated[
        str | None, typer.Option(help="reader: questions with answers, JSON lines")
    ] = None,
    base: Annotated[
        str, typer.Option("--from", help="all but embedder: the encoder that it begins with")
    ] = "models/published/minilm",
    budget: Annotated[str, typer.Option(help="90s, 3m")] = "3m",
    num: Annotated[
        int, typer.Option("--num", "-n", min=1, help="reranker: questions that are made up")
    ] = 1000,
    groups: Annotated[
        list[str] | None, typer.Option("--as", help="reader: group that asks")
    ] = None,
    seed: Annotated[int, typer.Option(help="same seed, same draws")] = 0,
) -> None:
    """Learn from the documents of an index: who embeds them, puts them in order, and answers
    from them.

    morphogen learn embedder indexes/handbook --out models/mine
    morphogen index handbook/ --by models/mine --out indexes/mine
    """
    from morphogen.core.errors import RecipeError
    from morphogen.systems.knowledge.index import Index
    from morphogen.training.options import Budget

    seconds = Budget.parse(budget).seconds
    if seconds is None:
        raise RecipeError("say how long it may learn", found=budget, expected="90s or 3m")
    opened = Index.open(index)

    def show(step: int, loss: float) -> None:
        if step % 50 == 1:
            print(f"step {step:>6,}  loss {loss:.3f}")

    if what == "embedder":
        from morphogen.systems.knowledge.learn_embedder import learn as run

        run(opened, seconds=seconds, seed=seed, told=show).save(out)
        print(f"next: morphogen index DOCUMENTS --by {in_shell(out)} --out ANOTHER")
        return
    from morphogen.systems.knowledge import examples, learn_reader
    from morphogen.systems.knowledge.questions import read_questions
    from morphogen.systems.knowledge.reader import Reader

    reader = Reader(base)
    if what == "reranker":
        asked = list(examples.from_documents(opened, num, seed))
        learn_reader.train(reader, asked, seconds=seconds, seed=seed, told=show)
        hint = f'morphogen search {in_shell(index)} "..." --rerank {in_shell(out)}'
    elif data is None:
        raise RecipeError("a reader learns from questions", hint="--data questions.jsonl")
    else:
        questions = read_questions(data)
        found = learn_reader.learn(
            reader, opened, questions, seconds=seconds, groups=groups or (), seed=seed, told=show
        )
        print(found)
        hint = f'morphogen ask {in_shell(index)} "..." --reader {in_shell(out)}'
    reader.save(out)
    print(f"next: {hint}")
