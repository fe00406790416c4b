r"""Is it there? A sentence held against what it is said to be from, by rules anyone can redo.

A sentence is supported where a quote (one or two sentences of a passage) has

    coverage  >= 0.6   of its words (stems, common ones left out), the rarer the weightier
    every number and every name of it
    as many denials, even or odd, and no word whose opposite it has in its place

The same input gives the same verdict. It does not understand: a sentence made of a passage's own
words in another order passes, and one in other words does not. What it refuses, it refuses for a
reason that is named.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from morphogen.systems.knowledge.sentences import OPPOSITES, Said, Span, said, sentences

COVERED = 0.6  # of the words of a sentence, by weight


@dataclass(frozen=True)
class Quote:
    """A stretch of a passage: which one, and from where to where in its text."""

    passage: int
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Verdict:
    """Of one sentence."""

    sentence: str
    supported: bool
    quote: Quote | None  # what supports it, or comes nearest; None where nothing is like it
    coverage: float
    why_not: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Plain JSON."""
        return {
            "sentence": self.sentence, "supported": self.supported, "coverage": self.coverage,
            "quote": None if self.quote is None else vars(self.quote),
            "why_not": list(self.why_not),
        }  # fmt: skip


class Evidence:
    """Passages, read once for all sentences that are held against them."""

    def __init__(self, passages: Sequence[str]) -> None:
        self.windows: list[tuple[Quote, Said, tuple[Said, ...]]] = []  # all of it, each sentence
        counts: Counter[str] = Counter()
        for number, text in enumerate(passages):
            spans = sentences(text)
            counts.update(word for span in spans for word in said(span.text).words)
            for first, last in [*zip(spans, spans, strict=True), *pairwise(spans)]:
                self.windows.append(_window(number, text, first, last))
        self.num = max(len(self.windows), 1)
        self.counts = counts

    def verify(self, sentence: str) -> Verdict:
        """Find the quote that supports a sentence, or the one that comes nearest."""
        claim = said(sentence)
        best: tuple[tuple[bool, float, int], Verdict] | None = None
        for quote, held, each in self.windows:
            coverage = self._coverage(claim, held)
            nearest = max(each, key=lambda one: self._coverage(claim, one))
            if coverage == 0 and not (claim.numbers & held.numbers or claim.names & held.names):
                continue
            why_not = _why_not(claim, held, nearest, coverage)
            verdict = Verdict(sentence, not why_not, quote, round(coverage, 4), why_not)
            key = (not why_not, coverage - 0.1 * len(why_not), quote.start - quote.end)
            if best is None or key > best[0]:
                best = key, verdict
        if best is None:
            return Verdict(sentence, False, None, 0.0, ("nothing there is like it",))
        return best[1]

    def _coverage(self, claim: Said, held: Said) -> float:
        """The share of the claim's words that a window has, by their rarity."""
        weights = {word: math.log1p(self.num / (1 + self.counts[word])) for word in claim.words}
        total = sum(weights.values())
        if not total:
            return 1.0 if claim.numbers or claim.names else 0.0
        there = held.words | held.names
        return sum(weight for word, weight in weights.items() if word in there) / total


def verify(text: str, passages: Sequence[str]) -> list[Verdict]:
    """A verdict for each sentence of a text."""
    evidence = Evidence(passages)
    return [evidence.verify(span.text) for span in sentences(text)]


def _window(
    number: int, text: str, first: Span, last: Span
) -> tuple[Quote, Said, tuple[Said, ...]]:
    body = text[first.start : last.end]
    each = tuple(said(span.text) for span in dict.fromkeys((first, last)))
    return Quote(number, first.start, last.end, body), said(body), each


def _why_not(claim: Said, held: Said, nearest: Said, coverage: float) -> tuple[str, ...]:
    """What a claim has that the quote has not; `nearest` is the sentence of it that is most alike,
    by which one knows whether it denies."""
    found = []
    if coverage < COVERED:
        found.append(f"only {coverage:.0%} of its words are there")
    if missing := sorted(claim.numbers - held.numbers):
        found.append(f"numbers that are not there: {', '.join(f'{n:g}' for n in missing)}")
    if strange := sorted(claim.names - held.names - held.words):
        found.append(f"names that are not there: {', '.join(strange)}")
    if claim.denies != nearest.denies:
        found.append("one denies what the other says")
    turned = sorted(
        word for word in claim.all_words
        if OPPOSITES.get(word) in held.all_words and word not in held.all_words
    )  # fmt: skip
    if turned:
        found.append(f"the opposite is there of: {', '.join(turned)}")
    return tuple(found)
