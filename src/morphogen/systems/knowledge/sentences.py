"""Sentences of a text, and what one says: words, numbers, names, and whether it denies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from morphogen.systems.knowledge.words import COMMON, figure, terms

_END = re.compile(
    r"(?<=[.!?。！？])(?P<closing>[\"')\]]*)(?:\s+|$)(?=[\"'(\[]*[A-Z0-9\u0080-\U0010ffff]|$)"
    # a line that goes on is no end, an item of a list is
    r"|\n{2,}|\n(?=\s*(?:[-*+|#>\u2022]|\d+[.)]\s))"
)
_SHORT = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|No|vs|etc|e\.g|i\.e|cf|approx|Inc|Ltd|Jr|Sr|Fig)|\b[A-Z])\.$"
)
_NUMBER = re.compile(r"(?<![\w.])[-\u2212]?\d+(?:[.,]\d+)*(?:st|nd|rd|th|s)?(?![\w])")
_NAME = re.compile(r"\b[A-Z\u00c0-\u00de][\w'\u2019.-]*")
_WORD = re.compile(r"[^\W_]+(?:['\u2019]t)?")


def _listed(text: str) -> list[str]:
    return text.split()


UNITS = _listed(
    """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen"""
)
TENS = _listed("twenty thirty forty fifty sixty seventy eighty ninety")
ORDINALS = _listed(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
)
WORDS = (
    {word: i for i, word in enumerate(UNITS)}
    | {word: 10 * i for i, word in enumerate(TENS, 2)}
    | {word: i for i, word in enumerate(ORDINALS, 1)}
    | {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
)
DENIALS = frozenset(
    _listed(
        """not no never none nobody nothing neither nor without cannot hardly failed fails refused
        unable lacks lacked denied"""
    )
)
_PAIRS = _listed(
    """more/less increased/decreased increase/decrease before/after above/below higher/lower
    highest/lowest largest/smallest larger/smaller first/last most/least north/south east/west
    early/late earlier/later always/never all/none won/lost rose/fell older/younger oldest/youngest
    best/worst allowed/forbidden include/exclude includes/excludes open/closed true/false
    minimum/maximum longer/shorter longest/shortest up/down begin/end"""
)
OPPOSITES = {
    first: second for pair in _PAIRS for first, second in (pair.split("/"), pair.split("/")[::-1])
}


@dataclass(frozen=True)
class Span:
    """A sentence, and where it stands in its text."""

    text: str
    start: int
    end: int


def sentences(text: str) -> list[Span]:
    """Cut after full stops that end a sentence; abbreviations and initials do not."""
    return [span for span in _cut(text) if span.text]


def _cut(text: str) -> Iterator[Span]:
    start = 0
    for match in _END.finditer(text):
        if _SHORT.search(text[start : match.start()]):
            continue
        yield _stripped(text, start, match.end("closing") if match["closing"] else match.start())
        start = match.end()
    yield _stripped(text, start, len(text))


def _stripped(text: str, start: int, end: int) -> Span:
    body = text[start:end]
    start += len(body) - len(body.lstrip())
    return Span(body.strip(), start, start + len(body.strip()))


@dataclass(frozen=True)
class Said:
    """What a sentence says, as far as it can be told without understanding it."""

    words: frozenset[str]  # stems of what is no number, name or common word
    numbers: frozenset[float]
    names: frozenset[str]
    denies: bool
    all_words: frozenset[str]


def said(text: str) -> Said:
    """Read a sentence."""
    plain = [word.lower().replace("\u2019", "'") for word in _WORD.findall(text)]
    numbers = frozenset([*_figures(text), *_counted(plain)])
    names = frozenset(_names(text))
    denials = sum(word in DENIALS or word.endswith("n't") for word in plain)
    content = [
        word for word in plain
        if word not in COMMON | WORDS.keys() | DENIALS and not word[0].isdigit()
        and not word.endswith("n't")
    ]  # fmt: skip
    stems = frozenset(stem for word in content for stem in terms(word))
    return Said(stems, numbers, names, denials % 2 == 1, frozenset(plain))


def _figures(text: str) -> Iterator[float]:
    """Numbers in figures."""
    for match in _NUMBER.findall(text):
        with suppress(ValueError):
            yield figure(match.replace("\u2212", "-").rstrip("sthndr"))


def _counted(words: list[str]) -> Iterator[float]:
    """Numbers in words: "three hundred twenty four" is one."""
    value: int | None = None
    for word, after in pairwise([*words, ""]):
        if word in WORDS:
            number = WORDS[word]
            value = (value or 1) * number if number >= 100 else (value or 0) + number
        if value is not None and after not in WORDS:
            yield float(value)
            value = None


def _names(text: str) -> Iterator[str]:
    """Words with a capital, but for the first of a sentence where it is a common one."""
    for match in _NAME.finditer(text):
        word = match.group().rstrip(".'\u2019-").removesuffix("'s").removesuffix("\u2019s")
        first = not text[: match.start()].strip("\"'([ ")
        if word.lower() in COMMON or word.lower() in WORDS or (first and not word.isupper()):
            continue
        yield from (stem for stem in terms(word))
