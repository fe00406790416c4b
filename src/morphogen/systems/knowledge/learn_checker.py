r"""A checker from nothing but documents, and from questions where there are any.

It learns from claims that are made up (`claims`) on four fifths of the documents. On the others,
among claims that the rules of `verifying` are asked as well, its bounds are chosen:

    sure     of false claims that only share too few words, at most a tenth get through, as far as
             so few can tell (the same rule as a reader's bound)
    doubt    of true claims that the rules support, one in fifty is lost
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import numpy as np

from morphogen.core.errors import DataError
from morphogen.systems.knowledge.checker import NEVER, Checker
from morphogen.systems.knowledge.claims import from_asked, from_passages
from morphogen.systems.knowledge.examples import Example
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.learn_reader import FEWEST, Told, most_wrong, train
from morphogen.systems.knowledge.questions import Question
from morphogen.systems.knowledge.reader import Reader
from morphogen.systems.knowledge.verifying import Evidence

HELD = 0.2  # of the documents, on which the bounds are chosen
NUM, NUM_HELD = 3000, 400  # sentences of which claims are made
LOST = 0.02  # of true claims that the rules support
FEWEST_DOCUMENTS = 5


def learn(
    reader: Reader,
    index: Index,
    questions: Sequence[Question] = (),
    *,
    seconds: float,
    groups: Iterable[str] = (),
    seed: int = 0,
    told: Told = lambda step, loss: None,
) -> Checker:
    """Let a reader learn whether claims follow from sentences. Raises `DataError` for too few
    documents."""
    groups = tuple(groups)
    readable = index.store.readable(groups)
    passages = list(readable.passages(readable.rows.tolist()).values())
    names = sorted({each.place for each in passages})
    if len(names) < FEWEST_DOCUMENTS:
        raise DataError(
            "there are too few documents to learn from", found=len(names),
            expected=f"{FEWEST_DOCUMENTS} or more: the bounds are chosen on a fifth of them",
        )  # fmt: skip
    held = {*random.Random(seed).sample(names, max(1, round(HELD * len(names))))}
    parts: dict[bool, list[list[Example]]] = {}
    for is_held, num in ((False, NUM), (True, NUM_HELD)):
        own = [each for each in passages if (each.place in held) == is_held]
        asked = [q for q in questions if q.answers and q.is_judged
                 and any(place in held for place in q.places or ()) == is_held]  # fmt: skip
        parts[is_held] = [
            *from_passages(own, num, seed), *from_asked(index, asked, groups, seed)
        ]  # fmt: skip
    steps = train(reader, parts[False], seconds=seconds, seed=seed, told=told)
    pairs = [each for group in parts[True] for each in group]
    checker = bounded(reader, pairs)
    reader.facts = {"steps": steps, "held_claims": len(pairs)}
    return checker


def bounded(reader: Reader, pairs: Sequence[Example]) -> Checker:
    """A checker with bounds that are chosen on pairs that it did not learn from."""
    true, false = list[float](), list[float]()
    for each in pairs:
        verdict = Evidence([each.text]).verify(each.question)
        follows = reader.scores(each.question, [each.text])[0]
        if verdict.supported and each.answers:
            true.append(follows)
        elif verdict.is_short and not each.answers:
            false.append(follows)
    sure, doubt = NEVER, 0.0
    if len(false) >= FEWEST:
        worst = sorted(false, reverse=True)[most_wrong(len(false))]
        sure = float(np.nextafter(worst, NEVER))
    if len(true) >= FEWEST:
        doubt = float(np.quantile(true, LOST))
    return Checker(reader, max(sure, 0.5), min(doubt, 0.5))
