"""Does the verifier tell what the documents say from what they do not? Answers, and none.

    python benchmarks/support.py SHARED/data/xquad-en --by models/published/minilm

verifier: sentences of XQuAD's paragraphs that hold an answer, said anew (another order of two
halves, a clause left out, numbers in words) and with one thing changed that makes them false (a
number, a name, a denial): F1 of "supported". The set is made by this file from a seed.
answers: words of the answer in the quoted sentence (F1 and the share that holds it whole), beside
the first sentence of the best passage; and how often something is answered to a question whose own
paragraph was taken out. The bound below which nothing is answered is chosen on the first half of
the articles, the figures are those of the second.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from morphogen.systems.knowledge.answering import Answer, answer
from morphogen.systems.knowledge.embedders import embedder_of
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.passage import Block, Document, Passage
from morphogen.systems.knowledge.sentences import TENS, UNITS, said, sentences
from morphogen.systems.knowledge.verifying import Evidence

MOST_FALSE = 0.1  # of the questions without their paragraph that may be answered


def main() -> None:
    """Lines of JSON."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--by", default="words", help="who embeds")
    given = options.parse_args()
    articles = json.loads((given.folder / "xquad.en.json").read_text())["data"]
    verifier(articles)
    answers(articles, given.by)


# -- the verifier ----------------------------------------------------------------------------------


def verifier(articles: Sequence[dict]) -> None:
    """Precision, recall and F1 of "supported", and the share that is seen of each kind."""
    draw, seen = random.Random(0), Counter()
    for article in articles:
        names = sorted({n for p in article["paragraphs"] for n in _capitals(p["context"])})
        for paragraph in article["paragraphs"]:
            evidence = Evidence([paragraph["context"]])
            for span in sentences(paragraph["context"])[:4]:
                for kind, claim, is_true in claims(span.text, names, draw):
                    told = evidence.verify(claim).supported
                    seen[kind, "right" if told == is_true else "wrong"] += 1
                    seen["all", is_true, told] += 1
    right, missed, false = (
        seen["all", *each] for each in ((True, True), (True, False), (False, True))
    )
    precision, recall = right / (right + false), right / (right + missed)
    f1 = 2 * precision * recall / (precision + recall)
    kinds = {k: round(seen[k, "right"] / (seen[k, "right"] + seen[k, "wrong"]), 3)
             for k in dict.fromkeys(key[0] for key in seen) if k != "all"}  # fmt: skip
    told = {"precision": precision, "recall": recall, "f1": f1}
    print(
        json.dumps(
            {"what": "verifier", **{k: round(v, 3) for k, v in told.items()}, "right": kinds}
        )
    )


def claims(text: str, names: Sequence[str], draw: random.Random) -> Iterator[tuple[str, str, bool]]:
    """(kind, claim, whether the text says so)."""
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


def answers(articles: Sequence[dict], by: str) -> None:
    """Over all paragraphs; and each question again without its own."""
    contexts = [p for article in articles for p in article["paragraphs"]]
    half = sum(len(article["paragraphs"]) for article in articles[: len(articles) // 2])
    asked = [(i, qa) for i, p in enumerate(contexts) for qa in p["qas"]]
    with tempfile.TemporaryDirectory() as folder:
        index = Index.make(Path(folder) / "index", embedder_of(by), most=10**6)
        for number, paragraph in enumerate(contexts):
            text, name = paragraph["context"], str(number)
            # each is read by a group of its own, beside all others: who is in all groups but one
            # asks as if that paragraph were not there
            document = Document(name, "", name, (Block(text),), readers=(f"g{number}",))
            index.add(document, [Passage(name, "", text, (), None, 0, len(text), 0)])
        index.store.settle()
        every = [f"g{i}" for i in range(len(contexts))]
        told = [(i, qa, answer(index, qa["question"], groups=every, enough=0.0)) for i, qa in asked]
        without = [
            (i, answer(index, qa["question"], groups=every[:i] + every[i + 1 :], enough=0.0).score)
            for i, qa in asked[:: max(1, len(asked) // 300)]
        ]
    bound = float(np.quantile([score for i, score in without if i < half], 1 - MOST_FALSE))
    second = [(qa, each) for i, qa, each in told if i >= half]
    false = np.mean([score >= bound for i, score in without if i >= half])
    kept = [(qa, each) for qa, each in second if each.score >= bound]
    print(json.dumps({"what": "answers", "bound": round(bound, 3), "false": round(float(false), 3),
                      "answered": round(len(kept) / len(second), 3)}))  # fmt: skip
    for name, pairs in (("all", second), ("where something is answered", kept)):
        f1s = [words_f1(each.text, qa) for qa, each in pairs]
        whole = [any(a["text"] in each.text for a in qa["answers"]) for qa, each in pairs]
        first = [words_f1(_first(each), qa) for qa, each in pairs]
        print(json.dumps({
            "what": name, "n": len(pairs), "f1": round(float(np.mean(f1s)), 3),
            "holds the answer": round(float(np.mean(whole)), 3),
            "f1 of first sentences": round(float(np.mean(first)), 3),
        }))  # fmt: skip


def _first(told: Answer) -> str:
    return sentences(told.hits[0].passage.text)[0].text if told.hits else ""


def words_f1(text: str, question: dict) -> float:
    """SQuAD's: of the words that an answer and the nearest of the right ones have in common."""
    return max(_f1(_plain(text), _plain(each["text"])) for each in question["answers"])


def _plain(text: str) -> Counter:
    words = re.sub(r"[^\w\s]", "", text.lower()).split()
    return Counter(word for word in words if word not in ("a", "an", "the"))


def _f1(one: Counter, other: Counter) -> float:
    same = sum((one & other).values())
    return 2 * same / (sum(one.values()) + sum(other.values())) if same else 0.0


if __name__ == "__main__":
    main()
