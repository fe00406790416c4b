r"""What anyone would count in texts, beside the same of real texts: richer or longer is not better.

    distinct_n        different runs of n words, per run of n words, n = 1, 2, 3    (Li et al. 2016)
    repeated_4grams   the share of runs of 4 words in a text that it holds more than once
    longest_repeat    words of the longest run that a text holds twice, on average over texts
    text_words        words of a text, on average
    new_words         the share of words that no held-out text has

A word is a run of letters, digits and `_`; each other sign is one, too; spaces are none. `distinct`
falls with the number of texts, so it compares with its floor only.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch

from morphogen.core.errors import MeasurementError
from morphogen.core.metric import Texts, scores

WORD = re.compile(r"\w+|[^\w\s]")
REPEATED = 4  # words


@scores(
    ratios=False,
    distinct_1=None,
    distinct_2=None,
    distinct_3=None,
    repeated_4grams=None,
    longest_repeat=None,
    text_words=None,
    new_words=None,
)
def text_statistics(texts: Texts, *, generator: torch.Generator | None = None) -> dict[str, float]:
    """Diversity, repetition, length and vocabulary of generated texts; best as real texts have."""
    generated, reference = (list(map(words, side)) for side in texts.values())
    total = sum(map(len, generated))
    if not total:
        raise MeasurementError("the texts hold no words", found=f"{len(generated)} empty texts")
    known = {word for text in reference for word in text}
    runs = [max(len(text) - REPEATED + 1, 0) for text in generated]
    repeated, longest = zip(*map(_repetition, generated), strict=True)
    return {
        **{f"distinct_{n}": _distinct(generated, n) for n in (1, 2, 3)},
        "repeated_4grams": sum(repeated) / max(sum(runs), 1),
        "longest_repeat": sum(longest) / len(generated),
        "text_words": total / len(generated),
        "new_words": sum(word not in known for text in generated for word in text) / total,
    }


@functools.lru_cache(maxsize=1 << 14)  # every text is looked at in many halves
def words(text: str) -> tuple[str, ...]:
    """The words and signs of a text."""
    return tuple(WORD.findall(text))


def _distinct(texts: Iterable[Sequence[str]], n: int) -> float:
    seen: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        seen.update(zip(*(text[i:] for i in range(n)), strict=False))
        total += max(len(text) - n + 1, 0)
    return len(seen) / max(total, 1)


@functools.lru_cache(maxsize=1 << 14)
def _repetition(text: tuple[str, ...]) -> tuple[int, int]:
    """How many runs of 4 words are there more than once; the length of the longest such run."""
    runs = _runs(text, REPEATED)
    repeated = sum(count for count in runs.values() if count > 1)
    low, high = 0, len(text)  # of what is repeated, all parts are: the longest is found by halving
    while low + 1 < high:
        middle = (low + high) // 2
        if any(count > 1 for count in _runs(text, middle).values()):
            low = middle
        else:
            high = middle
    return repeated, low


def _runs(text: tuple[str, ...], n: int) -> Counter[tuple[str, ...]]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))
