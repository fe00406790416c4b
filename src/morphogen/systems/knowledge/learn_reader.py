r"""A reader from questions whose answers are known, or from nothing but the documents.

It learns from stretches of the documents that are asked for by what stands around them, then from
questions (`examples`). Documents are divided: it learns from questions on some, and the bound below
which it says nothing is chosen on the others, asked without what answers them. Of n such, k may be
answered, for the largest k with

    P(Binomial(n, 0.1) <= k) <= 0.1

so that a bound that lets through more than a tenth of all such questions is chosen at most once in
ten times (Bates et al. 2021, "Distribution-free, risk-controlling prediction sets").
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.errors import DataError
from morphogen.systems.knowledge.answering import READ, answer, scored_sentences
from morphogen.systems.knowledge.examples import (
    Example,
    divided,
    from_questions,
    from_spans,
    looked_at,
)
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.questions import Question
from morphogen.systems.knowledge.reader import Laid, Reader

MOST_FALSE = 0.1  # of questions without what answers them that may be answered
RISK = 0.1  # that a bound lets more through
FEWEST = 22  # questions to choose a bound from: of fewer, none could be answered at this risk
BATCH, WARM = 16, 0.1  # pairs of a step; share of the steps in which the rate of learning rises
POOL = 16  # batches whose pairs are put side by side by their length
HEADS = 10.0  # times the rate of the encoder, that of what is new
MADE_UP, MADE_UP_TIME = 1500, 0.4  # stretches that are asked for, and the share of the time of them

Told = Callable[[int, float], None]  # (step, loss)


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
    groups = tuple(groups)
    learned, held = divided(index, questions, groups, seed)
    _check_held(held)
    made_up = list(from_spans(index, MADE_UP, groups, seed))
    read = list(from_questions(index, learned, groups))
    steps = 0
    if any(made_up):
        steps = train(reader, made_up, seconds=MADE_UP_TIME * seconds, seed=seed, told=told)
        seconds *= 1 - MADE_UP_TIME
    steps += train(reader, read, seconds=seconds, seed=seed, told=told)
    found = choose_bound(reader, index, held, groups)
    reader.facts = {"questions": len(learned), "steps": steps, **found}
    return (
        f"{len(learned):,} questions in {steps:,} steps; of {len(held):,} on other documents "
        f"{found['held_answered']:.0%} are answered, and at most "
        f"{MOST_FALSE:.0%} once what answers them is away (nine times in ten)"
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
    laid = [reader.laid(each.question, each.text) for each in examples]
    batches = _batches([len(each.tokens) for each in laid], random.Random(seed))
    num_steps = most_epochs * -(-len(examples) // BATCH)
    rates = {lr: reader.network.parameters(), HEADS * lr: reader.heads()}
    parts = [{"params": list(each), "rate": rate} for rate, each in rates.items()]
    optimizer = torch.optim.AdamW(parts, lr=lr, weight_decay=0.01)
    started, step = time.monotonic(), 0
    reader.train()
    while step < num_steps and (spent := time.monotonic() - started) < seconds:
        chosen = next(batches)
        done = max(step / num_steps, spent / seconds)
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * min(1.0, done / WARM + 0.02, (1 - done) / (1 - WARM))
        loss = loss_of(reader, [laid[i] for i in chosen], [examples[i] for i in chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        step += 1
        told(step, float(loss.detach()))
    reader.eval()
    return step


def _batches(lengths: Sequence[int], draw: random.Random) -> Iterator[list[int]]:
    """Places in batches, each place once in a pass, for ever: in a pool of some batches those of
    about one length stand together, so that little is read that is beyond an end."""
    while True:
        places = draw.sample(range(len(lengths)), len(lengths))
        for first in range(0, len(places), POOL * BATCH):
            pool = sorted(places[first : first + POOL * BATCH], key=lengths.__getitem__)
            batches = [pool[i : i + BATCH] for i in range(0, len(pool), BATCH)]
            yield from draw.sample(batches, len(batches))


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
    reader.bound = float(np.nextafter(sorted(wrong, reverse=True)[most_wrong(len(wrong))], 2.0))
    right = [
        not answer(index, each.text, groups=groups, reader=reader).is_silent
        for each in known if each.answers
    ]  # fmt: skip
    answered = float(np.mean(right)) if right else 0.0
    return {"held_questions": len(known), "held_answered": answered}


def most_wrong(num: int) -> int:
    """How many of so many questions without what answers them may be answered."""
    from scipy.stats import binom  # type: ignore[import-untyped]

    below = binom.cdf(np.arange(num + 1), num, MOST_FALSE) <= RISK
    return max(int(below.sum()) - 1, 0)


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
    hits = looked_at(index, question, groups, away=away)
    scored = scored_sentences(index, question.text, hits)[:READ]
    found = reader.read(
        question.text, [quote.text for _, quote in scored], [score for score, _ in scored]
    )
    return max((each.score for each in found), default=0.0)
