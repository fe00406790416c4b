"""Does the verifier tell what the documents say from what they do not? Answers, and none.

    python benchmarks/support.py SHARED/data/xquad-en --by models/published/minilm
    python benchmarks/support.py SHARED/data/xquad-en --by models/published/minilm \\
        --reader models/published/minilm --seconds 600

verifier: sentences of XQuAD's paragraphs that hold an answer, said anew (another order of two
halves, a clause left out, numbers in words) and with one thing changed that makes them false (a
number, a name, a denial): F1 of "supported". The set is made by this file from a seed. Then claims
in other words: questions with their answer in place of the word that asks, true, or with an answer
to another one, false.
answers: words of the answer in the quoted sentence (F1 and the share that holds it whole), beside
the first sentence of the best passage; and how often something is answered to a question whose own
paragraph was taken out. The bound below which nothing is answered is chosen on the first half of
the articles, the figures are those of the second. With --reader, one is trained from that encoder
on the questions of the first half (those on four fifths of its paragraphs; the bound is chosen on
the others): nothing of the second half but its paragraphs is seen before.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from morphogen.evaluation.intervals import mean_interval
from morphogen.systems.knowledge.answering import Answer, answer
from morphogen.systems.knowledge.embedders import embedder_of
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.learn_reader import learn
from morphogen.systems.knowledge.passage import Block, Document, Passage
from morphogen.systems.knowledge.questions import Question, overlap
from morphogen.systems.knowledge.reader import Reader
from morphogen.systems.knowledge.sentences import TENS, UNITS, said, sentences
from morphogen.systems.knowledge.verifying import Evidence

_ASKS = re.compile(
    r"\b(?:(?:what|which) (?:year|day|month|kind of|type of)|how (?:many|much|long|far|old|often)"
    r"|what|which|who|whom|whose|where|when)\b",
    re.IGNORECASE,
)
MOST_FALSE = 0.1  # of the questions without their paragraph that may be answered


def main() -> None:
    """Lines of JSON."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--by", default="words", help="who embeds")
    options.add_argument("--reader", help="an encoder that becomes a reader")
    options.add_argument("--seconds", type=float, default=600, help="that it learns")
    options.add_argument("--every", type=int, default=1, help="ask each so many of the questions")
    given = options.parse_args()
    articles = json.loads((given.folder / "xquad.en.json").read_text())["data"]
    verifier("changed", articles, changed)
    verifier("in other words", articles, in_other_words)
    answers(articles, given.by, given.reader, given.seconds, given.every)


# -- the verifier ----------------------------------------------------------------------------------


Claim = tuple[str, str, bool]  # its kind, what it says, and whether that is so


def verifier(
    what: str,
    articles: Sequence[dict],
    made: Callable[[dict, Sequence[str], random.Random], Iterable[Claim]],
) -> None:
    """Precision, recall and F1 of "supported", and the share that is seen of each kind."""
    draw, seen = random.Random(0), Counter()
    for article in articles:
        names = sorted({n for p in article["paragraphs"] for n in _capitals(p["context"])})
        for paragraph in article["paragraphs"]:
            evidence = Evidence([paragraph["context"]])
            for kind, claim, is_true in made(paragraph, names, draw):
                told = evidence.verify(claim).supported
                seen[kind, "right" if told == is_true else "wrong"] += 1
                seen["all", is_true, told] += 1
    right, missed, false = (
        seen["all", *each] for each in ((True, True), (True, False), (False, True))
    )
    precision, recall = right / max(right + false, 1), right / (right + missed)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    kinds = {k: round(seen[k, "right"] / (seen[k, "right"] + seen[k, "wrong"]), 3)
             for k in dict.fromkeys(key[0] for key in seen) if k != "all"}  # fmt: skip
    told = {"precision": precision, "recall": recall, "f1": f1}
    rounded = {name: round(value, 3) for name, value in told.items()}
    print(json.dumps({"what": f"verifier, {what}", **rounded, "right": kinds}), flush=True)


def changed(paragraph: dict, names: Sequence[str], draw: random.Random) -> Iterator[Claim]:
    """Of its first four sentences."""
    for span in sentences(paragraph["context"])[:4]:
        yield from claims(span.text, names, draw)


def in_other_words(paragraph: dict, names: Sequence[str], draw: random.Random) -> Iterator[Claim]:
    """Of its questions, each with its own answer and with one of another question's."""
    given = [qa["answers"][0]["text"] for qa in paragraph["qas"]]
    for qa, own in zip(paragraph["qas"], given, strict=True):
        yield "its answer", stated(qa["question"], own), True
        others = [o for o in given if o not in own and own not in o]
        if others:
            yield "another answer", stated(qa["question"], draw.choice(others)), False


def stated(question: str, answer: str) -> str:
    """A question as what it would be to say so, its answer in place of the word that asks."""
    asked = question.strip().rstrip("?").strip()
    claim, found = _ASKS.subn(lambda match: answer, asked, count=1)
    claim = claim if found else f"{asked}: {answer}"
    return f"{claim[:1].upper()}{claim[1:]}."


def claims(text: str, names: Sequence[str], draw: random.Random) -> Iterator[Claim]:
    """A sentence said anew, and made false."""
    yield "as it is", text, True
    halves = text.rstrip(".").split(", ", 1)
    if len(halves) == 2 and min(map(len, halves)) > 25:
        yield "other order", f"{halves[1][0].upper()}{halves[1][1:]}, {halves[0]}.", True
        yield "a clause left out", f"{max(halves, key=len)}.", True
    for figure in re.findall(r"\b\d{1,2}\b(?![.,]\d)", text)[:1]:
        yield "in words", re.sub(rf"\b{figure}\b", _in_words(int(figure)), text, count=1), True
    numbers = re.findall(r"\d[\d,.]*\d|\d", text)
    if numbers:
        old = draw.choice(numbers)
        new = re.sub(r"\d", lambda m: str((int(m.group()) + draw.randint(1, 8)) % 9 + 1), old)
        if new != old:
            yield "another number", text.replace(old, new, 1), False
    own = [n for n in _capitals(text) if n in names]
    others = [n for n in names if n not in text]
    if own and others:
        yield "another name", text.replace(draw.choice(own), draw.choice(others), 1), False
    for word in (" is ", " was ", " are ", " were ", " has ", " had ", " can "):
        if word in text and not said(text).denies:
            yield "denied", text.replace(word, f"{word}not ", 1), False
            break


def _capitals(text: str) -> list[str]:
    """Words with a capital that do not begin a sentence."""
    return re.findall(r"(?<=[a-z,] )[A-Z][a-z]{3,}", text)


def _in_words(number: int) -> str:
    if number < len(UNITS):
        return UNITS[number]
    ten, one = divmod(number, 10)
    return TENS[ten - 2] if not one else f"{TENS[ten - 2]} {UNITS[one]}"


# -- answers ---------------------------------------------------------------------------------------


def answers(articles: Sequence[dict], by: str, base: str | None, seconds: float, step: int) -> None:
    """Over all paragraphs; and half of the questions again without their own."""
    contexts = [p for article in articles for p in article["paragraphs"]]
    half = sum(len(article["paragraphs"]) for article in articles[: len(articles) // 2])
    asked = [(i, qa) for i, p in enumerate(contexts) for qa in p["qas"]]
    every = [f"g{i}" for i in range(len(contexts))]
    with tempfile.TemporaryDirectory() as folder:
        index, reader = filled(contexts, by, folder), None
        if base is not None:
            reader = Reader(base)
            learned = [
                Question(qa["question"], (str(i),), None, tuple(a["text"] for a in qa["answers"]))
                for i, qa in asked if i < half
            ]  # fmt: skip
            print(learn(reader, index, learned, seconds=seconds, groups=every, told=show))
        started = time.monotonic()

        def told_of(qa: dict, groups: Sequence[str]) -> Answer:
            return answer(index, qa["question"], groups=groups, reader=reader, enough=0.0)

        asked = asked[::step]
        second = [(qa, told_of(qa, every)) for i, qa in asked if i >= half]
        without = [
            (i, told_of(qa, every[:i] + every[i + 1 :]).score)
            for i, qa in asked[::2]
            if reader is None or i >= half
        ]
        taken = round(time.monotonic() - started, 1)
    bound = 0.0 if reader is None else reader.bound
    if reader is None:
        first = [score for i, score in without if i < half]
        bound = float(np.quantile(first, 1 - MOST_FALSE))
    false = [float(score >= bound) for i, score in without if i >= half]
    report("answered, of those without their paragraph", false, bound=bound, seconds=taken)
    report("answered, of those with it", [float(each.score >= bound) for _, each in second])
    kept = [(qa, each) for qa, each in second if each.score >= bound]
    for name, pairs in (("all", second), ("where something is answered", kept)):
        right = [[a["text"] for a in qa["answers"]] for qa, _ in pairs]
        texts, firsts = [each.text for _, each in pairs], [_first(each) for _, each in pairs]
        report(f"{name}: F1", [*map(overlap, texts, right)])
        holds = [any(a in text for a in each) for text, each in zip(texts, right, strict=True)]
        report(f"{name}: holds the answer", [*map(float, holds)])
        report(f"{name}: F1 of first sentences", [*map(overlap, firsts, right)])


def filled(contexts: Sequence[dict], by: str, folder: str) -> Index:
    """Each paragraph is read by a group of its own, beside all others: who is in all groups but one
    asks as if that paragraph were not there."""
    index = Index.make(Path(folder) / "index", embedder_of(by), most=10**6)
    for number, paragraph in enumerate(contexts):
        text, name = paragraph["context"], str(number)
        document = Document(name, "", name, (Block(text),), readers=(f"g{number}",))
        index.add(document, [Passage(name, "", text, (), None, 0, len(text), 0)])
    index.store.settle()
    return index


def show(step: int, loss: float) -> None:
    """Now and then, how learning goes."""
    if step % 20 == 1:
        print(json.dumps({"step": step, "loss": round(loss, 3)}), flush=True)


def report(what: str, values: Sequence[float], **more: float) -> None:
    """A mean with its interval."""
    x = np.array(values, float)
    low, high, _ = mean_interval(x)
    ends = {"value": float(x.mean()), "low": low, "high": high, **more}
    told = {name: round(value, 3) for name, value in ends.items()}
    print(json.dumps({"what": what, **told, "n": len(x)}), flush=True)


def _first(told: Answer) -> str:
    return sentences(told.hits[0].passage.text)[0].text if told.hits else ""


if __name__ == "__main__":
    main()
