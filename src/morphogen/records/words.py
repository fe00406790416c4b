"""Which words a text is found by: folded, without accents, of any script.

    "The Boots, größer!"  ->  the boots grosser, and beginnings of four letters: boot gros
    "红色的靴子"            ->  pairs of neighbours: 红色 色的 的靴 靴子

Beginnings let `boot*` find both `boot` and `boots`. What is found by them is read before it is
shown, so that none is shown that does not hold the word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

MOST = 4096  # words of one text that it is found by
BEGINNING = 4  # letters
_WORD = re.compile(r"\w+")
# Scripts that are written without spaces: Chinese, Japanese, Thai, Lao, Khmer.
_JOINED = re.compile(r"[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")


def folded(text: str) -> str:
    """A text as it is compared: small letters, no accents."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in parts if not unicodedata.combining(c))


def words(text: str) -> list[str]:
    """The folded words, each once, in the order in which they come."""
    return list(dict.fromkeys(_words(folded(text))))


def terms(text: str) -> list[str]:
    """All that a text is found by: `word`, and `begi*` of longer ones."""
    found = words(text)[:MOST]
    starts = (f"{word[:BEGINNING]}*" for word in found if len(word) >= BEGINNING)
    return list(dict.fromkeys([*found, *starts]))


def asked(query: str) -> list[str]:
    """The terms that a query looks for: its words, of which `boot*` is a beginning.

    Beginnings of fewer than four letters say too little to look for, and are left to the reading.
    """
    found = []
    for piece in folded(query).split():
        for word in _words(piece):
            if not piece.endswith("*") or not piece.rstrip("*").endswith(word):
                found.append(word)
            elif len(word) >= BEGINNING:
                found.append(f"{word[:BEGINNING]}*")
    return list(dict.fromkeys(found))


def holds(text: str, query: str) -> bool:
    """Whether a text holds every word of a query, or a word that so begins."""
    there = words(text)
    for piece in folded(query).split():
        for word in _words(piece):
            begins = piece.endswith("*") and piece.rstrip("*").endswith(word)
            if not any(w.startswith(word) if begins else w == word for w in there):
                return False
    return True


def _words(text: str) -> Iterator[str]:
    for run in _WORD.findall(text):
        at = 0
        for joined in _JOINED.finditer(run):
            if joined.start() > at:
                yield run[at : joined.start()]
            piece = joined.group()
            yield from (piece[i : i + 2] for i in range(max(len(piece) - 1, 1)))
            at = joined.end()
        if at < len(run):
            yield run[at:]
