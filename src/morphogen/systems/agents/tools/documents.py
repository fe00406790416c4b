"""An index as tools: what its documents say, and where. Words of documents are not the user's, so
that whoever reads them is tainted (`privileges`)."""

from __future__ import annotations

from collections.abc import Iterable

from morphogen.systems.agents.tool import Tool, tool
from morphogen.systems.knowledge.answering import answer
from morphogen.systems.knowledge.index import Index

NUM = 4  # passages that are given


def index_tools(
    index: Index, name: str, *, groups: Iterable[str] = (), num: int = NUM, trusted: bool = False
) -> list[Tool]:
    """`search_NAME` and `ask_NAME`, as a member of `groups`. `trusted` where all documents were
    written by the user, or by someone who may do what the user may."""
    groups, place = tuple(groups), f"index:{name}"

    def search(question: str) -> str:
        hits = index.search(question, num=num, groups=groups)
        found = (f"[{i}] {hit.passage.where}\n{hit.passage.text}" for i, hit in enumerate(hits, 1))
        return "\n\n".join(found) or "nothing was found"

    def ask(question: str) -> str:
        told = answer(index, question, groups=groups, num=num)
        where = [
            told.hits[verdict.quote.passage].passage.where
            for verdict in told.verdicts if verdict.quote is not None
        ]  # fmt: skip
        return "\n".join([told.text, *where])

    return [
        tool(search, name=f"search_{name}", summary=f"Passages of {name}, with where they stand.",
             reads=[place], trusted=trusted),
        tool(ask, name=f"ask_{name}", summary=f"The sentence of {name} that answers a question.",
             reads=[place], trusted=trusted),
    ]  # fmt: skip
