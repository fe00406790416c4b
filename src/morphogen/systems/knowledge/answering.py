"""Answers that can be checked: each sentence with the quotes that support it, or none at all.

    answer(index, question)                  the sentences of the documents that answer best, quoted
    answer(index, question, reader=..)       the words of a sentence that answer, by a model that
                                             reads it with the question (`reader`)
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
from morphogen.systems.knowledge.reader import Reader
from morphogen.systems.knowledge.sentences import said
from morphogen.systems.knowledge.verifying import Quote, Verdict, verify
from morphogen.systems.knowledge.words import COMMON

SILENT = "the documents do not say"
ENOUGH = 0.45  # of a sentence's score, below which it is no answer
READ = 8  # sentences that a reader reads
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
    reader: Reader | None = None,
    num: int = 5,
    enough: float | None = None,
) -> Answer:
    """Answer from what a member of `groups` may read; nothing whose score is not `enough`: of a
    sentence 0.45, of a reader its own bound."""
    hits = index.search(question, num=num, groups=groups)
    scored = scored_sentences(index, question, hits)
    quote: Quote | None
    if scored and reader is not None:
        enough = reader.bound if enough is None else enough
        score, quote, text = _read(reader, question, scored[:READ])
    else:
        score, quote = scored[0] if scored else (0.0, None)
        text = "" if quote is None else quote.text
    if quote is None or score < (ENOUGH if enough is None else enough):
        return Answer(question, SILENT, (), hits, score)
    if writer is None:
        verdict = Verdict(text, supported=True, quote=quote, coverage=1.0)
        return Answer(question, text, (verdict,), hits, score)
    written = writer(INSTRUCTIONS, asked_with(listed(hits), question)).strip()
    if SILENT in written.lower():
        return Answer(question, SILENT, (), hits, score)
    verdicts = tuple(verify(written, [hit.passage.text for hit in hits]))
    return Answer(question, written, verdicts, hits, score)


def listed(hits: Iterable[Hit]) -> list[str]:
    """Passages as a model that writes from them is given them, each with its number."""
    return [f"[{number}] {hit.passage.context}" for number, hit in enumerate(hits, 1)]


def asked_with(passages: Sequence[str], question: str) -> str:
    """The question, below the passages to answer it from."""
    return "\n\n".join([*passages, f"Question: {question}"])


def _read(
    reader: Reader, question: str, scored: Sequence[tuple[float, Quote]]
) -> tuple[float, Quote, str]:
    """How sure a reader is of the best sentence, that sentence, and its words that answer."""
    quotes = [quote for _, quote in scored]
    found = reader.read(question, [each.text for each in quotes], [score for score, _ in scored])
    best = max(range(len(found)), key=lambda i: (found[i].score, -i))
    return found[best].score, quotes[best], quotes[best].text[found[best].start : found[best].end]


def scored_sentences(index: Index, question: str, hits: Sequence[Hit]) -> list[tuple[float, Quote]]:
    """Every sentence of the passages by how well it answers, best first: half by meaning, half by
    the question's own words that it has."""
    quotes, near = [], [np.zeros(0, np.float32)]
    for number, hit in enumerate(hits):
        spans, vectors = index.sentences(hit.passage)
        quotes += [Quote(number, span.start, span.end, span.text) for span in spans]
        near.append(vectors @ index.asked(question)[0])
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
        scores = (scores + np.maximum(np.concatenate(near), 0)) / 2
    order = np.lexsort((np.arange(len(scores)), -scores))
    return [(float(scores[i]), quotes[i]) for i in order]
