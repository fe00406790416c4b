"""Answers that can be checked: each sentence with the quotes that support it, or none at all.

    answer(index, question)                  the sentences of the documents that answer best, quoted
    answer(index, question, writer=model)    what a model writes of them, sentence by sentence

What a model writes is held against the passages that it was given (`verifying`); sentences that
nothing supports are marked. Where the documents do not hold an answer, that is what is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from morphogen.systems.knowledge.index import Hit, Index
from morphogen.systems.knowledge.sentences import COMMON, said, sentences
from morphogen.systems.knowledge.verifying import Evidence, Quote, Verdict

SILENT = "the documents do not say"
ENOUGH = 0.45  # of a sentence's score, below which it is no answer
INSTRUCTIONS = (
    "Answer the question from the numbered passages alone, in one or two short sentences. Use "
    f"their words. If they hold no answer, write exactly: {SILENT}."
)

Writer = Callable[[str, str], str]  # instructions, passages and question -> what it writes


@dataclass(frozen=True)
class Answer:
    """What is answered, and what each sentence of it stands on."""

    question: str
    text: str
    verdicts: Sequence[Verdict] = ()
    hits: Sequence[Hit] = ()
    score: float = 0.0  # how well the best sentence answers
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def is_silent(self) -> bool:
        """Whether the documents hold no answer."""
        return self.text == SILENT

    @property
    def unsupported(self) -> float:
        """The share of sentences that nothing supports."""
        marks = [not verdict.supported for verdict in self.verdicts]
        return sum(marks) / len(marks) if marks else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "question": self.question, "answer": self.text, "score": self.score,
            "unsupported": self.unsupported, "verdicts": [each.to_json() for each in self.verdicts],
            "passages": [hit.to_json() for hit in self.hits],
        }  # fmt: skip


def answer(
    index: Index,
    question: str,
    *,
    groups: Iterable[str] = (),
    writer: Writer | None = None,
    num: int = 5,
    enough: float = ENOUGH,
) -> Answer:
    """Answer from what a member of `groups` may read."""
    hits = index.search(question, num=num, groups=groups)
    scored = _scored(index, question, hits)
    if not scored or scored[0][0] < enough:
        return Answer(question, SILENT, (), hits, scored[0][0] if scored else 0.0)
    if writer is None:
        score, quote = scored[0]
        verdict = Verdict(quote.text, supported=True, quote=quote, coverage=1.0)
        return Answer(question, quote.text, (verdict,), hits, score)
    texts = [hit.passage.text for hit in hits]
    listed = "\n\n".join(f"[{i}] {hit.passage.context}" for i, hit in enumerate(hits, 1))
    written = writer(INSTRUCTIONS, f"{listed}\n\nQuestion: {question}").strip()
    if SILENT in written.lower():
        return Answer(question, SILENT, (), hits, scored[0][0])
    evidence = Evidence(texts)
    verdicts = tuple(evidence.verify(span.text) for span in sentences(written))
    return Answer(question, written, verdicts, hits, scored[0][0])


def _scored(index: Index, question: str, hits: Sequence[Hit]) -> list[tuple[float, Quote]]:
    """Every sentence of the passages by how well it answers, best first: half by meaning, half by
    the question's own words that it has."""
    quotes = [
        Quote(number, span.start, span.end, span.text)
        for number, hit in enumerate(hits)
        for span in sentences(hit.passage.text)
    ]
    if not quotes:
        return []
    asked = said(question)
    wanted = asked.words | asked.names | {word for word in asked.all_words if word not in COMMON}
    by_words = []
    for quote in quotes:
        told = said(quote.text)
        there = told.words | told.names | told.all_words
        by_words.append(len(wanted & there) / max(len(wanted), 1))
    scores = np.array(by_words)
    if index.embedder.dim:
        vectors = index.embedder.embed([question, *(quote.text for quote in quotes)])
        scores = (scores + np.maximum(vectors[1:] @ vectors[0], 0)) / 2
    order = np.lexsort((np.arange(len(scores)), -scores))
    return [(float(scores[i]), quotes[i]) for i in order]
