r"""Claims that a passage supports, and such as it does not, made up from passages and questions.

    true     a sentence, its halves the other way round, a clause of it, some of its words
    false    the same with another number or name, with two names changed round, with a denial
             more or less, with half of another sentence
    asked    a question with its answer in place of the word that asks, or with another's answer

Of half of the pairs some words of the claim are taken out of the source, never numbers, names or
denials: people say the same in other words, and nobody is at hand to do so. None of it is judged.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

from morphogen.systems.knowledge.examples import WORD, Example, from_questions, kind_of
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.passage import Passage
from morphogen.systems.knowledge.questions import Question
from morphogen.systems.knowledge.sentences import DENIALS, sentences

SHORTEST = 4  # words of a sentence that anything is made of
FEW, MANY = 0.3, 0.6  # of the words that a claim and its source share, that the source loses
SAID = 0.7  # of the words of a sentence, where only some of them make a claim
_DENIABLE = re.compile(r"\b(is|was|are|were|has|had|can|may|will|must|should)\b")
_DENIED = re.compile(r"\b(is|was|are|were|has|had|can|may|will|must|should) not\b")
_DIGIT = re.compile(r"\d")
_ASKS = re.compile(
    r"\b(?:(?:what|which) (?:year|day|month|kind of|type of)|how (?:many|much|long|far|old|often)"
    r"|what|which|who|whom|whose|where|when)\b",
    re.IGNORECASE,
)


def from_passages(passages: Sequence[Passage], num: int, seed: int = 0) -> Iterator[list[Example]]:
    """For each of about `num` sentences: a claim that it supports, and one that it does not."""
    draw = random.Random(seed)
    names = sorted({name for each in passages for name in names_of(each.text)})
    for _ in range(num):
        spans = sentences(draw.choice(passages).text)
        place = draw.randrange(max(len(spans), 1))
        if not spans or len(spans[place].text.split()) < SHORTEST:
            continue
        text, other = spans[place].text, draw.choice(spans).text
        source = f"{text} {spans[place + 1].text}" if spans[place + 1 :] else text
        source = draw.choice((text, source))
        pair = [Example(draw.choice([*true_claims(text, draw)]), source, True)]
        wrong = [*false_claims(draw.choice([text, pair[0].question]), other, names, draw)]
        if wrong:
            pair.append(Example(draw.choice(wrong), source, False))
        yield [reworded(each, draw) if draw.random() < 0.5 else each for each in pair]


def from_asked(
    index: Index, questions: Sequence[Question], groups: Sequence[str] = (), seed: int = 0
) -> Iterator[list[Example]]:
    """For each question that is answered: it with its answer, beside the sentence that holds it and
    beside one that does not; and it with what answers another question, beside the same."""
    draw = random.Random(seed)
    given = sorted({answer for each in questions for answer in (each.answers or ())[:1]})
    for question, read in zip(questions, from_questions(index, questions, groups), strict=True):
        right = [each for each in read if each.span is not None]
        if not right:
            continue
        text, span = right[0].text, right[0].span or (0, 0)
        answer = text[span[0] : span[1]]
        claim = stated(question.text, answer)
        pairs = [Example(claim, text, True)]
        pairs += [Example(claim, each.text, False) for each in read if not each.answers][:1]
        inside = [text[match.start() : match.end()] for match in WORD.finditer(text)]
        others = [word for word in inside if word not in answer and _alike(word, answer)]
        others = others or [each for each in given if _alike(each, answer) and each != answer]
        if others:
            pairs.append(Example(stated(question.text, draw.choice(others)), text, False))
        yield pairs


def stated(question: str, answer: str) -> str:
    """A question as what it would be to say so, its answer in place of the word that asks."""
    asked = question.strip().rstrip("?").strip()
    claim, found = _ASKS.subn(lambda match: answer, asked, count=1)
    claim = claim if found else f"{asked}: {answer}"
    return f"{claim[:1].upper()}{claim[1:]}."


def true_claims(text: str, draw: random.Random) -> Iterator[str]:
    """What a sentence says, all of it or some."""
    yield text
    halves = text.rstrip(".").split(", ", 1)
    if len(halves) == 2 and min(map(len, halves)) > 25:
        yield f"{halves[1][0].upper()}{halves[1][1:]}, {halves[0]}."
        yield f"{max(halves, key=len)}."
    words = text.split()
    yield " ".join(word for word in words if _is_fact(word) or draw.random() < SAID)


def false_claims(text: str, other: str, names: Sequence[str], draw: random.Random) -> Iterator[str]:
    """A sentence with one thing changed that makes it false."""
    numbers = re.findall(r"\d[\d,.]*\d|\d", text)
    if numbers:
        old = draw.choice(numbers)
        new = _DIGIT.sub(lambda match: str((int(match.group()) + draw.randint(1, 8)) % 10), old)
        if new != old:
            yield text.replace(old, new, 1)
    own, elsewhere = names_of(text), [name for name in names if name not in text]
    if own and elsewhere:
        yield text.replace(draw.choice(own), draw.choice(elsewhere), 1)
    if len(set(own)) > 1:
        one, two = draw.sample(sorted(set(own)), 2)
        yield re.sub(
            rf"\b(?:{re.escape(one)}|{re.escape(two)})\b",
            lambda match: two if match.group() == one else one, text,
        )  # fmt: skip
    if _DENIED.search(text):
        yield _DENIED.sub(r"\1", text, count=1)
    elif not DENIALS & {*text.lower().split()}:
        denied, found = _DENIABLE.subn(r"\1 not", text, count=1)
        if found:
            yield denied
    if other not in text and text not in other:
        words, more = text.rstrip(".").split(), other.split()
        yield " ".join([*words[: len(words) // 2], *more[len(more) // 2 :]])


def reworded(pair: Example, draw: random.Random) -> Example:
    """The same claim beside a source that does not have all of its words."""
    share, lost = draw.uniform(FEW, MANY), set[str]()
    for word in sorted({*pair.question.lower().split()}):
        if not _is_fact(word) and draw.random() < share:
            lost.add(word)
    kept = [w for w in pair.text.split() if _is_fact(w) or w.lower() not in lost]
    return Example(pair.question, " ".join(kept), pair.answers)


def names_of(text: str) -> list[str]:
    """Words with a capital that do not begin a sentence."""
    return re.findall(r"(?<=[a-z,] )[A-Z][a-z]{3,}", text)


def _is_fact(word: str) -> bool:
    """What a rule looks at word by word: a number, a name, a denial."""
    bare = word.strip("\"'(),.;:!?")
    return bare.lower() in DENIALS or bare[:1].isupper() or any(map(str.isdigit, bare))


def _alike(one: str, other: str) -> bool:
    """Whether one would ask for both by the same word."""
    kinds = {kind_of(WORD.findall(each)[0], 1) if WORD.findall(each) else "" for each in
             (one, other)}  # fmt: skip
    return len(kinds) == 1 and "" not in kinds
