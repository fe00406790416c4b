r"""A reader from questions whose answers are known, or from nothing but the documents.

    questions    sentences that hold a right answer, beside those that a search finds and that do
                 not; and each question once more without the documents that answer it
    documents    a sentence asks for the passage that it was taken out of (inverse cloze, Lee et al.
                 2019), a title for what it stands above, beside what BM25 finds as well

Documents are divided: the reader learns from questions on some, and the bound below which it says
nothing is chosen on the others, so that of their questions, asked without what answers them, no
more than a tenth are answered.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.errors import DataError
from morphogen.systems.knowledge.answering import READ, answer, scored_sentences
from morphogen.systems.knowledge.index import Hit, Index
from morphogen.systems.knowledge.passage import Passage
from morphogen.systems.knowledge.questions import Question
from morphogen.systems.knowledge.reader import Laid, Reader
from morphogen.systems.knowledge.sentences import sentences

MOST_FALSE = 0.1  # of questions without what answers them that may be answered
HELD = 0.2  # of the documents, on which the bound is chosen
WRONG = 3  # sentences or passages beside each that answers
FEWEST = 20  # questions to choose a bound from
BATCH, WARM = 16, 0.1  # pairs of a step; share of the steps in which the rate of learning rises
KEPT = 0.1  # of the sentences that ask stay in their passage

READ_OF, AWAY = 5, 50  # passages; those among which others are, where some answer

Told = Callable[[int, float], None]  # (step, loss)


@dataclass(frozen=True)
class Example:
    """A question with a text: whether it answers, and where, so far as that is known."""

    question: str
    text: str
    answers: bool
    span: tuple[int, int] | None = None
    prior: float = 0.0


# -- from questions --------------------------------------------------------------------------------


def divided(questions: Sequence[Question], seed: int = 0) -> tuple[list[Question], list[Question]]:
    """To learn from, and to choose the bound on: questions on one document are on one side."""
    names = sorted({_document(each) for each in questions})
    random.Random(seed).shuffle(names)
    held = {*names[: max(1, round(HELD * len(names)))]}
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


def _hits(index: Index, question: Question, groups: Sequence[str], *, away: bool) -> list[Hit]:
    """What comes first; or `away` from what answers, as if that were not there."""
    hits = index.search(question.text, num=AWAY if away else READ_OF, groups=groups)
    left = [each for each in hits if not (away and question.is_answered_by(each.passage))]
    return left[:READ_OF]


def _wrong(index: Index, question: Question, groups: Sequence[str], *, away: bool) -> list[Example]:
    """The sentences that come first among documents that do not answer."""
    hits = _hits(index, question, groups, away=away)
    scored = scored_sentences(index, question.text, hits)[:WRONG]
    return [Example(question.text, quote.text, False, None, score) for score, quote in scored]


def _span(text: str, answers: Sequence[str]) -> tuple[int, int] | None:
    """Where the first of the answers stands in a text."""
    for each in answers:
        if each and (start := text.find(each)) >= 0:
            return start, start + len(each)
    return None


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


# -- learning --------------------------------------------------------------------------------------


def learn(
    reader: Reader,
    index: Index,
    questions: Sequence[Question],
    *,
    seconds: float,
    groups: Iterable[str] = (),
    seed: int = 0,
    told: Told = lambda step, loss: None,
) -> str:
    """Let a reader learn from questions on some documents, and choose its bound on others. Returns
    what came of it, for a person."""
    learned, held = divided(questions, seed)
    _check_held(held)
    groups = tuple(groups)
    read = list(from_questions(index, learned, groups))
    steps = train(reader, read, seconds=seconds, seed=seed, told=told)
    found = choose_bound(reader, index, held, groups)
    reader.facts = {"questions": len(learned), "steps": steps, **found}
    return (
        f"{len(learned):,} questions in {steps:,} steps; of {len(held):,} on other documents "
        f"{found['held_answered']:.0%} are answered, and at most "
        f"{MOST_FALSE:.0%} once what answers them is away"
    )


def train(
    reader: Reader,
    groups: Sequence[Sequence[Example]],
    *,
    seconds: float,
    lr: float = 1e-4,
    most_epochs: int = 4,
    seed: int = 0,
    told: Told = lambda step, loss: None,
) -> int:
    """Let a reader learn for so many seconds, or so many times all of what it is to read, whichever
    is less. Returns the steps that it took. Raises `DataError` where nothing answers."""
    examples = [each for group in groups for each in group]
    if not any(each.answers for each in examples):
        raise DataError(
            "nothing answers any of these questions", found=f"{len(groups):,} questions",
            expected='"answers" that stand in the documents, word by word',
        )  # fmt: skip
    torch.manual_seed(seed)
    draw, laid = random.Random(seed), [reader.laid(e.question, e.text) for e in examples]
    num_steps = most_epochs * -(-len(examples) // BATCH)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=lr, weight_decay=0.01)
    started, step, places = time.monotonic(), 0, list[int]()
    reader.train()
    while step < num_steps and (spent := time.monotonic() - started) < seconds:
        if len(places) < BATCH:
            places += draw.sample(range(len(examples)), len(examples))
        chosen, places = places[:BATCH], places[BATCH:]
        done = max(step / num_steps, spent / seconds)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, done / WARM + 0.02, (1 - done) / (1 - WARM))
        loss = loss_of(reader, [laid[i] for i in chosen], [examples[i] for i in chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        step += 1
        told(step, float(loss.detach()))
    reader.eval()
    return step


def loss_of(reader: Reader, laid: Sequence[Laid], examples: Sequence[Example]) -> Tensor:
    """In nats: of whether each text answers, and of where, for those of which it is known."""
    sure, told = reader(laid, [each.prior for each in examples])
    does = sure.new_tensor([float(each.answers) for each in examples])
    loss = F.binary_cross_entropy_with_logits(sure, does)
    nats = [
        -told[row, side, laid[row].begins + place]
        for row, each in enumerate(examples)
        for side, place in enumerate(_tokens_at(laid[row], each.span))
    ]
    return loss + torch.stack(nats).sum() / (2 * len(laid)) if nats else loss


def _tokens_at(laid: Laid, span: tuple[int, int] | None) -> tuple[int, ...]:
    """The first and the last token of a span of characters, where it was read."""
    inside = [
        n for n, (start, end) in enumerate(zip(laid.starts, laid.ends, strict=True))
        if span is not None and start < span[1] and end > span[0]
    ]  # fmt: skip
    return (inside[0], inside[-1]) if inside else ()


def choose_bound(
    reader: Reader, index: Index, held: Sequence[Question], groups: Sequence[str] = ()
) -> dict[str, float]:
    """Choose the score below which nothing is said. Returns what it does to the questions it was
    chosen on. Raises `DataError` where these are too few."""
    known = _check_held(held)
    wrong = [_score(reader, index, each, groups, away=bool(each.answers)) for each in known]
    reader.bound = float(np.nextafter(np.quantile(wrong, 1 - MOST_FALSE), 2.0))
    right = [
        not answer(index, each.text, groups=groups, reader=reader).is_silent
        for each in known if each.answers
    ]  # fmt: skip
    answered = float(np.mean(right)) if right else 0.0
    return {"held_questions": len(known), "held_answered": answered}


def _check_held(held: Sequence[Question]) -> list[Question]:
    """Those of which it is known what answers them, or that nothing does."""
    known = [each for each in held if each.is_judged or each.answers == ()]
    if len(known) < FEWEST:
        raise DataError(
            "there are too few questions to choose a bound from", found=len(known),
            expected=f"{FEWEST} or more, with places or quotes, on a fifth of the documents",
        )  # fmt: skip
    return known


def _score(
    reader: Reader,
    index: Index,
    question: Question,
    groups: Sequence[str],
    *,
    away: bool,
) -> float:
    """How sure a reader is of its best sentence; or of the best `away` from what answers."""
    hits = _hits(index, question, groups, away=away)
    scored = scored_sentences(index, question.text, hits)[:READ]
    found = reader.read(
        question.text, [quote.text for _, quote in scored], [score for score, _ in scored]
    )
    return max((each.score for each in found), default=0.0)
