r"""What a reader learns from: a question, a text, and whether the text answers, and where.

    questions    sentences that hold a right answer, beside those that a search finds and that do
                 not; and each question once more without the documents that answer it
    spans        a stretch of a sentence (a number, a name, a few words) is asked for by what stands
                 around it, with a word to ask by in its place (cloze, Lewis et al. 2019)
    documents    a sentence asks for the passage that it was taken out of (inverse cloze, Lee et al.
                 2019), a title for what it stands above, beside what BM25 finds as well

The first are known to somebody; the others are made up, and need nothing but documents.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from morphogen.systems.knowledge.answering import scored_sentences
from morphogen.systems.knowledge.index import Hit, Index
from morphogen.systems.knowledge.passage import Passage
from morphogen.systems.knowledge.questions import Question
from morphogen.systems.knowledge.sentences import WORDS, Span, sentences
from morphogen.systems.knowledge.words import COMMON

HELD = 0.2  # of the documents, on which the bound is chosen
WRONG = 3  # sentences or passages beside each that answers
KEPT = 0.1  # of the sentences that ask stay in their passage
READ_OF, AWAY = 5, 50  # passages; those among which others are, where some answer
AROUND, LEFT = 10, 0.75  # words on each side that ask for a stretch; the share of them that does
LONGEST = 5  # words of a stretch that is asked for
_WORD = re.compile(r"\w[\w'\u2019.,-]*\w|\w")
_YEAR = re.compile(r"1\d{3}|20\d{2}")


@dataclass(frozen=True)
class Example:
    """A question with a text: whether it answers, and where, so far as that is known."""

    question: str
    text: str
    answers: bool
    span: tuple[int, int] | None = None
    prior: float = 0.0


# -- from questions --------------------------------------------------------------------------------


def divided(
    index: Index, questions: Sequence[Question], groups: Sequence[str] = (), seed: int = 0
) -> tuple[list[Question], list[Question]]:
    """To learn from, and to choose the bound on: questions on one document are on one side, and
    documents that are found together too. Otherwise the bound would be chosen among sentences that
    were learned to say nothing, and be too low for those that were not."""
    asked: dict[str, list[Question]] = {}
    for each in questions:
        asked.setdefault(_document(each), []).append(each)
    names = sorted(asked)
    random.Random(seed).shuffle(names)
    of_place = {place: name for name in names for place in asked[name][0].places or ()}
    held, near = set[str](), Counter[str]()
    while len(held) < max(1, round(HELD * len(names))):
        name = near.most_common(1)[0][0] if near else next(n for n in names if n not in held)
        held.add(name)
        for each in asked[name]:
            hits = index.search(each.text, num=READ_OF, groups=groups)
            near.update(of_place.get(hit.passage.place, name) for hit in hits)
        near = Counter({other: num for other, num in near.items() if other not in held})
    sides: tuple[list[Question], list[Question]] = ([], [])
    for each in questions:
        sides[_document(each) in held].append(each)
    return sides


def _document(question: Question) -> str:
    return "\0".join(question.places or ()) or question.quote or question.text


def from_questions(
    index: Index, questions: Sequence[Question], groups: Sequence[str] = ()
) -> Iterator[list[Example]]:
    """For each question what is read of it: sentences with and without its answer."""
    for question in questions:
        if not question.answers:
            yield _wrong(index, question, groups, away=False)
            continue
        hits = index.search(question.text, num=5, groups=groups)
        found, wrong = list[Example](), list[Example]()
        for score, quote in scored_sentences(index, question.text, hits):
            right = question.is_answered_by(hits[quote.passage].passage)
            span = _span(quote.text, question.answers) if right else None
            example = Example(question.text, quote.text, span is not None, span, score)
            (found if span is not None else wrong).append(example)
        without = _wrong(index, question, groups, away=True)
        yield [*found[:1], *wrong[:WRONG], *without[:1]]


def looked_at(index: Index, question: Question, groups: Sequence[str], *, away: bool) -> list[Hit]:
    """What comes first; or `away` from what answers, as if that were not there."""
    hits = index.search(question.text, num=AWAY if away else READ_OF, groups=groups)
    left = [each for each in hits if not (away and question.is_answered_by(each.passage))]
    return left[:READ_OF]


def _wrong(index: Index, question: Question, groups: Sequence[str], *, away: bool) -> list[Example]:
    """The sentences that come first among documents that do not answer."""
    hits = looked_at(index, question, groups, away=away)
    scored = scored_sentences(index, question.text, hits)[:WRONG]
    return [Example(question.text, quote.text, False, None, score) for score, quote in scored]


def _span(text: str, answers: Sequence[str]) -> tuple[int, int] | None:
    """Where the first of the answers stands in a text."""
    for each in answers:
        if each and (start := text.find(each)) >= 0:
            return start, start + len(each)
    return None


# -- stretches of sentences ------------------------------------------------------------------------


def from_spans(
    index: Index, num: int, groups: Sequence[str] = (), seed: int = 0
) -> Iterator[list[Example]]:
    """For each of about `num` stretches of sentences: a question for it, and the sentence that
    comes first for that elsewhere."""
    draw, readable = random.Random(seed), index.store.readable(groups)
    for _ in range(num):
        row = int(draw.choice(readable.rows))
        passage = readable.passages([row])[row]
        text = draw.choice(sentences(passage.text) or [Span("", 0, 0)]).text
        stretches = list(askable(text))
        if not stretches:
            continue
        (start, end), by = draw.choice(stretches)
        asked = around(text, start, end, draw.choice(by), draw)
        wrong = _wrong(index, Question(asked, (passage.place,)), groups, away=True)
        yield [Example(asked, text, True, (start, end)), *wrong[:1]]


def askable(text: str) -> Iterator[tuple[tuple[int, int], tuple[str, ...]]]:
    """The stretches of a sentence that one may ask for, and the words to ask by: words of one kind
    side by side, common ones left out."""
    words = list(_WORD.finditer(text))
    kinds = [_kind(match.group(), place) for place, match in enumerate(words)]
    for kind, group in groupby(range(len(words)), key=lambda place: kinds[place]):
        places = list(group)
        if kind and len(places) <= LONGEST and len(places) < len(words) / 2:
            yield (words[places[0]].start(), words[places[-1]].end()), ASKED_BY[kind]


ASKED_BY = {
    "year": ("When", "In what year"), "number": ("How many", "How much", "What"),
    "name": ("Who", "What", "Where", "Which", "What is the name of"), "words": ("What", "How"),
}  # fmt: skip


def _kind(word: str, place: int) -> str:
    """What one asks for it by; nothing for words that no answer is made of."""
    if _YEAR.fullmatch(word):
        return "year"
    if word[0].isdigit() or word.lower() in WORDS:
        return "number"
    if word.lower() in COMMON:
        return ""
    return "name" if word[0].isupper() and place else "words"


def around(text: str, start: int, end: int, by: str, draw: random.Random) -> str:
    """A question for a stretch: most of the words around it, those behind it first now and then."""
    before, after = _WORD.findall(text[:start])[-AROUND:], _WORD.findall(text[end:])[:AROUND]
    kept = [[word for word in side if draw.random() < LEFT] for side in (before, after)]
    if draw.random() < 0.5:
        kept.reverse()
    return f"{by} {' '.join(kept[0] + kept[1])}?"


# -- from documents --------------------------------------------------------------------------------


def from_documents(index: Index, num: int, seed: int = 0) -> Iterator[list[Example]]:
    """For each of `num` questions that are made up: the passage that it is from, and such as hold
    its words as well."""
    draw, readable = random.Random(seed), index.store.readable(())
    for _ in range(num):
        row = int(draw.choice(readable.rows))
        passage = readable.passages([row])[row]
        asked, text = made_up(passage, draw)
        if not asked.strip() or not text.strip():
            continue
        hits = index.search(asked, num=10, by="words")
        wrong = [hit.passage.context for hit in hits if hit.passage.digest != passage.digest]
        chosen = draw.sample(wrong, min(WRONG, len(wrong)))
        yield [Example(asked, text, True), *(Example(asked, each, False) for each in chosen)]


def made_up(passage: Passage, draw: random.Random) -> tuple[str, str]:
    """What a passage may be asked for by, and what is left of it: a title, a sentence, or some of
    the words of one."""
    above = [*passage.heading, passage.title]
    if draw.random() < 0.3 and any(above):
        return next(filter(None, above)), passage.text
    spans = sentences(passage.text)
    if len(spans) < 2:
        return "", ""
    span = draw.choice(spans)
    words = span.text.split()
    if draw.random() < 0.5:
        words = [word for word in words if draw.random() < 0.6]
    if draw.random() < KEPT:
        return " ".join(words), passage.context
    return " ".join(words), f"{passage.text[: span.start]} {passage.text[span.end :]}"
