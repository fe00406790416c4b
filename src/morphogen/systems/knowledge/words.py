r"""Which passages hold the words of a question: BM25, over what may be read and nothing else.

    idf(t)   = log(1 + (N - n_t + 1/2) / (n_t + 1/2))
    score(d) = sum over t of idf(t) f_td (k1 + 1) / (f_td + k1 (1 - b + b |d| / mean |d|))

N, n_t and the mean length count the passages that whoever asks may read (Robertson & Zaragoza
2009): otherwise scores of what one may read would tell whether words stand in what one may not.

Words are folded, and cut to their stems where a language is named (Porter's, by the snowball
library); what has a digit in it stays as it is too, so that codes, amounts and numbers of articles
are found as such, and once more as others write it: AB-1234/5 as ab12345, 1,250.00 as 1250.

Where rare words are half of what a question tells, by idf, it asks for passages that hold them all:

    rare(t)  n_t <= max(5, N / 100)          sum of idf over rare t >= 1/2 sum of idf over t

Legend: R rows (passages), P postings (a word in a passage).
"""

from __future__ import annotations

import importlib
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morphogen.core.errors import RecipeError
from morphogen.core.extras import extra
from morphogen.records.words import folded

K1, B = 1.2, 0.75
FEW, FEW_OF = 5, 0.01  # rows, or the share of all, that hold a rare word
FAR = 8  # rows to one that is looked at, from which on these are looked for one by one
MOSTLY = 0.5  # of what a question tells, by idf
_PIECE = re.compile(r"\S+")
_EDGES = re.compile(r"^\W+|\W+$")
_WORD = re.compile(r"[^\W_]+")
_DIGIT = re.compile(r"\d")
_CODE = re.compile(r"(?<![^\W_])([^\W\d_]{1,5})\s+(\d[^\W_]*)")
_FIGURE = re.compile(r"(?<![\d.,])\d+(?:[.,]\d{3})*(?:[.,]\d+)?(?![\d.,]?\d)")

# Words that say little of what is asked for: of a question that has others they are left out.
COMMON = frozenset(
    _WORD.findall(
        """a an the of in on at to for by with from as is are was were be been being and or but that
        this these those it its he she they his her their there which who whom whose what when where
        how why has have had do does did will would can could should may might must also than then
        so such into over under about between during while if not no i you we our your my s t"""
    )
)

Ints = NDArray[np.int64]
Numbers = NDArray[Any]


def terms(text: str, language: str | None = "english") -> list[str]:
    """Every term of a text, as often as it stands there."""
    stem = _stemmer(language)
    return [term for piece in _PIECE.findall(folded(text)) for term in _terms(piece, stem)]


def _terms(piece: str, stem: Callable[[str], str]) -> list[str]:
    """The words of what stands between two blanks; what has a digit also whole, and as others write
    it: without the marks of a code, without those between the thousands of each number."""
    words = _WORD.findall(piece)
    found = [word if _DIGIT.search(word) else stem(word) for word in words]
    return found + [each for each in _spellings(piece, words) if each not in words]


def _spellings(piece: str, words: Sequence[str]) -> dict[str, None]:
    """A code or a number of several parts, in one: as it is, and as others write it."""
    whole = _EDGES.sub("", piece)
    if len(words) < 2 or not _DIGIT.search(whole):
        return {}
    figures = [f"{figure(each):.15g}" for each in _FIGURE.findall(whole)]
    return dict.fromkeys([whole, "".join(words), *figures])


def asked_terms(question: str, language: str | None = "english") -> list[str]:
    """Those of a question, without common words where it has others: "what is said of" would
    outweigh the one name in it. A code may stand in it in two words, "ab 1234"."""
    found = terms(question, language)
    if language == "english":
        common = _common(language)
        found = [each for each in found if each not in common] or found
    codes = _CODE.findall(folded(question))
    return [*found, *(f"{letters}{digits}" for letters, digits in codes)]


def asked_words(question: str, language: str | None = "english") -> list[frozenset[str]]:
    """The words of a question, common ones left out, each as the terms by any of which a row holds
    it: the spellings of a code are one word."""
    stem = _stemmer(language)
    common = _common(language) if language == "english" else frozenset()
    found: list[frozenset[str]] = []
    for piece in _PIECE.findall(folded(question)):
        words = _WORD.findall(piece)
        if spelt := _spellings(piece, words):
            is_code = _EDGES.sub("", piece)[0].isalpha()  # ab-12 is not held by what holds 12
            found.append(frozenset(each for each in spelt if not (is_code and each[0].isdigit())))
        else:
            cut = (word if _DIGIT.search(word) else stem(word) for word in words)
            found += [frozenset([each]) for each in cut if each not in common]
    codes = _CODE.findall(folded(question))
    found += [frozenset([f"{a}{b}"]) for a, b in codes if stem(a) not in common]
    return list(dict.fromkeys(found))


def holders(held: Iterable[Ints], total: int) -> Ints:
    """Of the rows that hold each word of a question, each once, of so many rows: those that hold
    every rare word, where these are mostly what is asked for; else none."""
    counted = [(rarity(total, len(rows)), rows) for rows in held if len(rows)]
    rare = [each for each in counted if len(each[1]) <= max(FEW, FEW_OF * total)]
    if not rare or sum(idf for idf, _ in rare) < MOSTLY * sum(idf for idf, _ in counted):
        return np.zeros(0, np.int64)
    return reduce(np.intersect1d, (rows for _, rows in rare))


def figure(text: str) -> float:
    """A number, whatever divides its thousands: 1,250.00 and 1.250,00 and 1250 are one. Raises
    `ValueError` for what is none."""
    comma, point = text.rfind(","), text.rfind(".")
    if comma > point and (len(text) - comma != 4 or point >= 0):
        text = text.replace(".", "").replace(",", ".")  # a decimal comma
    else:
        text = text.replace(",", "")
        if text.count(".") > 1:
            text = text.replace(".", "")
    return float(text)


@cache
def _common(language: str) -> frozenset[str]:
    """The stems of common words, which every question asks for."""
    return frozenset(map(_stemmer(language), COMMON))


@cache
def _stemmer(language: str | None) -> Callable[[str], str]:
    """A word to its stem; itself where no language is named."""
    if language is None:
        return str
    library = extra("snowballstemmer", "knowledge", "words are cut to stems", raises=RecipeError)
    if language not in library.algorithms():
        raise RecipeError(
            "there are no stems for this language", found=language,
            expected=", ".join(sorted(library.algorithms())),
        )  # fmt: skip
    return cache(library.stemmer(language).stemWord)  # type: ignore[no-any-return]


def norm(lengths: Numbers, mean: float) -> Numbers:
    """What a count is divided by beside itself: more in what is longer than most."""
    return K1 * (1 - B + B * lengths / max(mean, 1e-9))


def rarity(num: int, num_held: int) -> float:
    """idf of what `num_held` of `num` rows hold."""
    return float(np.log1p((num - num_held + 0.5) / (num_held + 0.5)))


def gain(num: int, num_held: int, count: Numbers, norm: Numbers) -> Numbers:
    """What a term adds to the scores of the `num_held` of `num` rows that hold it `count` times."""
    return rarity(num, num_held) * count * (K1 + 1) / (count + norm)


class Allowed:
    """Rows that are looked at, and where those of a posting stand among them. Rows side by side are
    cut out of it; between gaps, such as documents that are gone have left, or that others may read,
    each row says its place; few rows far apart are looked for in the posting."""

    def __init__(self, rows: Ints) -> None:
        self.rows = rows  # (A,), sorted
        self.first = int(rows[0]) if len(rows) else 0
        self.span = int(rows[-1]) - self.first + 1 if len(rows) else 0
        self._places: Ints | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def among(self, row: Ints, count: Ints) -> tuple[Ints, Ints]:
        """Rows of a posting (sorted), and how often each holds its term -> the places of those that
        are allowed, and how often these do."""
        if self.span > FAR * len(self.rows):
            at = np.searchsorted(row, self.rows)
            found = np.flatnonzero(at < len(row))
            found = found[row[at[found]] == self.rows[found]]
            return found, count[at[found]]
        part = slice(*np.searchsorted(row, [self.first, self.first + self.span]))
        place, count = row[part] - self.first, count[part]
        if self.span == len(self.rows):
            return place, count
        if self._places is None:
            places = np.full(self.span, -1)
            places[self.rows - self.first] = np.arange(len(self.rows))
            self._places = places
        place = self._places[place]
        inside = place >= 0
        return place[inside], count[inside]


class Counted(ABC):
    """Rows ranked by the terms of a question, wherever it is kept which rows hold which terms."""

    def __init__(self, language: str | None = "english") -> None:
        self.language = language

    @abstractmethod
    def postings(self, term: str) -> tuple[Ints, Ints]:
        """The rows that hold a term, sorted, and how often each does."""

    @abstractmethod
    def lengths_of(self, allowed: Ints) -> Numbers:
        """How many terms rows (sorted) have: (A,)."""

    def scores(self, question: str, allowed: Allowed) -> NDArray[np.float64]:
        """BM25 of the rows of `allowed`, in its order: (A,). What holds none has 0."""
        scores = np.zeros(len(allowed))
        if not len(allowed):
            return scores
        lengths = self.lengths_of(allowed.rows)
        divided = norm(lengths, float(lengths.mean()))
        asked = Counter(asked_terms(question, self.language))
        for term in sorted(asked, key=str):
            where, count = allowed.among(*self.postings(term))
            if not len(where):
                continue
            more = gain(len(allowed), len(where), count, divided[where])
            scores[where] += asked[term] * more
        return scores

    def held(self, question: str, row: int) -> list[str]:
        """The terms of a question that a row holds."""
        asked = dict.fromkeys(asked_terms(question, self.language))
        return [term for term in asked if _is_among(self.postings(term)[0], row)]

    def exact(self, question: str, allowed: Allowed) -> frozenset[int]:
        """The rows of `allowed` that hold all of what is asked for exactly (`holders`)."""
        held = (
            [allowed.among(*self.postings(term))[0] for term in spelt]
            for spelt in asked_words(question, self.language)
        )
        places = (each[0] if len(each) == 1 else reduce(np.union1d, each) for each in held)
        return frozenset(allowed.rows[holders(places, len(allowed))].tolist())


class Words(Counted):
    """In memory: which rows hold which terms, and how often: postings, sorted by term and row."""

    def __init__(self, language: str | None = "english") -> None:
        super().__init__(language)
        self.ids: dict[str, int] = {}
        self.term = np.zeros(0, np.int64)  # (P,)
        self.row = np.zeros(0, np.int64)  # (P,)
        self.count = np.zeros(0, np.int64)  # (P,)
        self.begins = np.zeros(1, np.int64)  # where the postings of each term begin
        self.lengths: NDArray[Any] = np.zeros(0)  # terms in each row

    def add(self, texts: Mapping[int, str]) -> None:
        """Take in rows that are not there yet."""
        term, row, count = [], [], []
        for number, text in texts.items():
            for word, times in Counter(terms(text, self.language)).items():
                term.append(self.ids.setdefault(word, len(self.ids)))
                row.append(number)
                count.append(times)
        self._sort(
            np.concatenate([self.term, np.array(term, np.int64)]),
            np.concatenate([self.row, np.array(row, np.int64)]),
            np.concatenate([self.count, np.array(count, np.int64)]),
        )

    def remove(self, rows: Iterable[int]) -> None:
        """Forget rows, and the words that no other row holds."""
        left = ~np.isin(self.row, np.fromiter(rows, np.int64))
        term, row, count = self.term[left], self.row[left], self.count[left]
        used, term = np.unique(term, return_inverse=True)
        names = list(self.ids)
        self.ids = {names[old]: new for new, old in enumerate(used.tolist())}
        self._sort(term, row, count)

    def rows(self) -> Ints:
        """The rows that are known, sorted."""
        return np.unique(self.row)

    def postings(self, term: str) -> tuple[Ints, Ints]:
        """See `Counted`."""
        number = self.ids.get(term)
        if number is None:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        part = slice(int(self.begins[number]), int(self.begins[number + 1]))
        return self.row[part], self.count[part]

    def lengths_of(self, allowed: Ints) -> Numbers:
        """See `Counted`."""
        lengths = np.zeros(len(allowed))  # rows without a word come after the last that has one
        inside = int(np.searchsorted(allowed, len(self.lengths)))
        lengths[:inside] = self.lengths[allowed[:inside]]
        return lengths

    def _sort(self, term: Ints, row: Ints, count: Ints) -> None:
        order = np.lexsort((row, term))
        self.term, self.row, self.count = term[order], row[order], count[order]
        self.begins = np.searchsorted(self.term, np.arange(len(self.ids) + 1))
        self.lengths = np.bincount(self.row, self.count)

    def save(self, file: Path) -> None:
        """Write all of it."""
        names = np.frombuffer("\n".join(self.ids).encode(), np.uint8)
        with file.open("wb") as stream:
            np.savez(stream, names=names, term=self.term, row=self.row, count=self.count)

    @classmethod
    def load(cls, file: Path, language: str | None) -> Words:
        """What `save` wrote."""
        words = cls(language)
        with np.load(file, allow_pickle=False) as held:
            names = bytes(held["names"]).decode()
            words.ids = {name: i for i, name in enumerate(names.split("\n") if names else ())}
            words._sort(held["term"], held["row"], held["count"])
        return words


def _is_among(rows: Ints, row: int) -> bool:
    place = int(np.searchsorted(rows, row))
    return place < len(rows) and int(rows[place]) == row


def languages() -> Sequence[str]:
    """Those that words can be cut to stems of."""
    library: Any = importlib.import_module("snowballstemmer")
    return sorted(library.algorithms())
