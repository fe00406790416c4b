r"""How good an index is at questions whose answers are known: found, answered, supported, silent.

    ndcg_10      sum_i g_i / log2(i + 1) over its largest, g_i whether the i-th answers
    recall_k     of what answers, the share among the first k
    mrr          1 / the place of the first that answers, 0 beyond the tenth

Found are documents, each where its first passage is, or passages that hold a quote. Answers are
held against those that are right: exactly, by words in common (F1), by whether these stand in them;
beside silence, and the first sentence of the first passage. Two sanity checks stand beside: the
judgements of another question, near 0, and passages that ask for themselves, near 1.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from morphogen.core.errors import DataError
from morphogen.core.measurement import Measurement
from morphogen.data import progress
from morphogen.evaluation.intervals import mean_interval
from morphogen.systems.knowledge.answering import Answer, answer
from morphogen.systems.knowledge.index import Hit, Index
from morphogen.systems.knowledge.questions import Question, is_exact, overlap
from morphogen.systems.knowledge.sentences import sentences

NUM = 10  # places that count
PASSAGES = 50  # that are looked at for as many documents
MOST_SELF = 200  # passages that ask for themselves
SHUFFLED, ITSELF = 0.1, 0.9  # beyond which the sanity checks say that something is wrong

Ask = Callable[..., Answer]  # (index, question, groups=..) -> its answer
Values = Mapping[str, Sequence[float]]


def evaluate(
    index: Index, questions: Sequence[Question], *, groups: Iterable[str] = (), ask: Ask = answer
) -> dict[str, Any]:
    """The record of an evaluation: scores with their intervals, and what to be warned of.

    Raises `DataError` where nothing is known of any question.
    """
    groups = tuple(groups)
    judged = [each for each in questions if each.is_judged]
    told = [each for each in questions if each.answers is not None]
    if not judged and not told:
        raise DataError(
            "nothing is known of these questions", found=f"{len(questions):,} questions",
            expected='"places" (documents that answer), "quote" (what they hold), or "answers"',
        )  # fmt: skip
    scores = {**retrieval(index, judged, groups), **answers(index, told, groups, ask)}
    protocol = {
        "index": f"{len(index):,} passages, change {index.store.change()}",
        "embedder": index.embedder.name, "questions": _digest(questions), "groups": list(groups),
    }  # fmt: skip
    return {
        "protocol": protocol,
        "scores": {name: _measured(name, values) for name, values in scores.items() if len(values)},
        "warnings": _warnings(scores),
    }


def retrieval(index: Index, judged: Sequence[Question], groups: Sequence[str]) -> Values:
    """Of each question, or passage, one value: see above."""
    if not judged:
        return {}
    found: dict[str, list[float]] = {}
    for number, question in enumerate(progress.told(judged, "searching", len(judged))):
        hits = index.search(question.text, num=PASSAGES, groups=groups)
        for name, value in _of_ranking(question, hits).items():
            found.setdefault(name, []).append(value)
        if len(judged) > 1:
            other = judged[(number + max(1, len(judged) // 2)) % len(judged)]
            found.setdefault("ndcg_10_shuffled", []).append(_of_ranking(other, hits)["ndcg_10"])
    return {**found, "found_by_itself": _by_itself(index, groups)}


def _of_ranking(question: Question, hits: Sequence[Hit]) -> dict[str, float]:
    """What one ranking is worth."""
    if question.quote is None:
        places = list(dict.fromkeys(hit.passage.place for hit in hits))
        gains = [place in (question.places or ()) for place in places]
        wanted = len({*(question.places or ())})
    else:
        gains, wanted = [question.is_answered_by(hit.passage) for hit in hits], 1
    gains = gains[:NUM]
    gained = sum(gain / math.log2(i + 2) for i, gain in enumerate(gains))
    best = sum(1 / math.log2(i + 2) for i in range(min(wanted, NUM)))
    first = next((i for i, gain in enumerate(gains) if gain), None)
    recall = {f"recall_{k}": min(sum(gains[:k]) / wanted, 1.0) for k in (1, 5, NUM)}
    return {
        "ndcg_10": min(gained / best, 1.0), **recall,
        "mrr": 0.0 if first is None else 1 / (first + 1),
    }  # fmt: skip


def _by_itself(index: Index, groups: Sequence[str]) -> list[float]:
    """Whether passages come first that are asked for by all that they say."""
    readable = index.store.readable(groups)
    step = max(1, len(readable) // MOST_SELF)
    found = []
    for passage in readable.passages(readable.rows[::step][:MOST_SELF].tolist()).values():
        first = index.search(passage.context, num=1, groups=groups)[0].passage
        found.append(float(first.context == passage.context))
    return found


def answers(index: Index, told: Sequence[Question], groups: Sequence[str], ask: Ask) -> Values:
    """Of each question whose answers are known, or of each that has none."""
    found: dict[str, list[float]] = {}

    def note(**values: float) -> None:
        for name, value in values.items():
            found.setdefault(name, []).append(float(value))

    for question in progress.told(told, "asking", len(told)):
        given, right = ask(index, question.text, groups=groups), question.answers or ()
        if given.verdicts:
            note(unsupported=given.unsupported)
        if not right:
            note(false_answers=not given.is_silent)
            continue
        text = "" if given.is_silent else given.text
        first = sentences(given.hits[0].passage.text)[:1] if given.hits else []
        note(
            answered=not given.is_silent, exact=is_exact(text, right), f1=overlap(text, right),
            holds_answer=any(each.lower() in text.lower() for each in right),
            f1_of_silence=overlap("", right),
            f1_of_first_sentence=overlap(first[0].text if first else "", right),
        )  # fmt: skip
    return found


HIGHER: Mapping[str, bool | None] = {
    "false_answers": False, "unsupported": False, "ndcg_10_shuffled": None, "answered": None,
    "f1_of_silence": None, "f1_of_first_sentence": None,
}  # fmt: skip
NOTES = {
    "ndcg_10_shuffled": "judgements of another question: near 0",
    "found_by_itself": "passages that ask for themselves: near 1",
    "false_answers": "of questions that the documents do not answer",
    "answered": "of questions that they do answer",
    "unsupported": "share of an answer's sentences",
    "f1_of_silence": "floor: no answer at all",
    "f1_of_first_sentence": "floor: whatever stands first",
}


def _measured(name: str, values: Sequence[float]) -> dict[str, Any]:
    x = np.array(values, np.float64)
    low, high, method = mean_interval(x)
    ends: dict[str, Any] = {}
    if math.isfinite(low):
        ends = {"low": low, "high": high, "interval": f"95 %, {method}"}
    told = Measurement(
        name, float(x.mean()), len(x), HIGHER.get(name, True), note=NOTES.get(name, ""), **ends
    )
    return {key: value for key, value in told.to_json().items() if key not in ("name", "protocol")}


def _warnings(scores: Values) -> list[str]:
    found = []
    mean = {name: sum(values) / len(values) for name, values in scores.items() if len(values)}
    if mean.get("ndcg_10_shuffled", 0.0) > SHUFFLED:
        found.append("judgements of other questions fit too: these questions tell little apart")
    if mean.get("found_by_itself", 1.0) < ITSELF:
        found.append("passages do not find themselves: is the index whole, and its embedder right?")
    return found


def _digest(questions: Sequence[Question]) -> str:
    told = json.dumps([vars(each) for each in questions], default=list)
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
