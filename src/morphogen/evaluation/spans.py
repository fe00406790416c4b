r"""The longest spans that texts share with a corpus, which is gone through once and never held.

For lengths l of a grid, the hashes of all l-grams of the texts are kept, sorted; the corpus comes
in blocks, and each of its l-grams is looked up. What begins no l-gram of the texts begins no longer
one, so that few places are looked at twice. Hashes are polynomials in 64 bits,

    H(i, l) = B^-i sum_{k=i}^{i+l-1} r(s_k) B^k  mod 2^64,      r random, B odd,

differences of one cumulative sum (Karp & Rabin 1987). What is told at last was compared byte by
byte. Memory is that of the texts, about 24 bytes for each of theirs and each length of the grid; a
corpus of 100 MB takes 12 s of one core.

A text is symbols: its bytes, and `END` between two documents.

Legend: S symbols of all texts, G lengths of the grid.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

END, APART = 256, 257  # between documents; between texts, and in no corpus
SHORTEST, LONGEST = 16, 4096
FILTER_BITS = 22
FACTOR = 0x9E3779B97F4A7C15
INVERSE = pow(FACTOR, -1, 1 << 64)
Symbols = npt.NDArray[np.uint16]


def grid(longest: int) -> list[int]:
    """Lengths from 16 to `longest`, about 1.4 times as long each: 16, 24, 32, 48, 64 .."""
    lengths = [n for k in range(4, 13) for n in (1 << k, 3 << (k - 1))]
    return [n for n in lengths if n <= min(longest, LONGEST)] or [SHORTEST]


@dataclass(frozen=True)
class Shared:
    """What texts share with a corpus: at each symbol of all texts the number in `lengths` of the
    longest gram that begins there and is in the corpus, -1 for none (S,), and where in the corpus
    that stands first (S,)."""

    lengths: list[int]
    starts: npt.NDArray[np.int64]  # where each text begins among all symbols, and where they end
    level: npt.NDArray[np.int8]
    place: npt.NDArray[np.int64]

    def covered(self, text: int, least: int) -> npt.NDArray[np.bool_]:
        """Which symbols of a text stand in a shared span of at least the grid's length `least`."""
        start, stop = self.starts[text], self.starts[text + 1]
        begins = (self.level[start:stop] >= self.lengths.index(least)).astype(np.int64)
        ends = np.zeros_like(begins)
        ends[least:] = begins[:-least] if least < len(begins) else 0
        found: npt.NDArray[np.bool_] = np.cumsum(begins - ends) > 0
        return found

    def longest(self, text: int) -> tuple[int, int, int]:
        """Of a text: the grid's length of its longest shared span, 0 for none; where in the text it
        begins; and where in the corpus."""
        start, stop = self.starts[text], self.starts[text + 1]
        if start == stop:
            return 0, 0, -1
        at = int(start + self.level[start:stop].argmax())
        level = int(self.level[at])
        length = self.lengths[level] if level >= 0 else 0
        return length, at - int(start), int(self.place[at])


def shared(texts: Sequence[Symbols], corpus: Iterable[Symbols]) -> Shared:
    """Look up all that texts hold in a corpus, which comes in blocks of any size, in order."""
    apart = np.array([APART], np.uint16)
    joined = np.concatenate([part for text in texts for part in (text, apart)] or [apart])
    sizes = np.array([len(text) + 1 for text in texts], np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    lengths = grid(max((len(text) for text in texts), default=0))
    grams = [Grams.of(joined, length) for length in lengths]
    base, held = 0, joined[:0]
    for block in corpus:
        held = np.concatenate([held, block])
        _look_up(held, grams, lengths, base)
        keep = min(lengths[-1] - 1, len(held))  # the longest gram may go on in the next block
        base, held = base + len(held) - keep, held[len(held) - keep :]
    level, place = np.full(len(joined), -1, np.int8), np.full(len(joined), -1, np.int64)
    for number, each in enumerate(grams):
        where = each.first[each.which]
        hit = where >= 0
        level[: len(hit)][hit], place[: len(hit)][hit] = number, where[hit]
    return Shared(lengths, starts, level, place)


@dataclass
class Grams:
    """The grams of one length of all texts: sorted hashes, which of them begins at each symbol, and
    where each was first found in the corpus, -1 for nowhere."""

    hashes: npt.NDArray[np.uint64]
    which: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    mayhap: npt.NDArray[np.bool_]  # by the first bits of a hash, whether any begins with them

    @classmethod
    def of(cls, symbols: Symbols, length: int) -> Grams:
        """All of them."""
        found = Hashes(symbols).at(np.arange(max(len(symbols) - length + 1, 0)), length)
        hashes, which = np.unique(found, return_inverse=True)
        mayhap = np.zeros(1 << FILTER_BITS, bool)
        mayhap[_first_bits(hashes)] = True
        return cls(hashes, which, np.full(len(hashes), -1, np.int64), mayhap)

    def look_up(
        self, hashes: npt.NDArray[np.uint64], places: npt.NDArray[np.int64], base: int
    ) -> npt.NDArray[np.int64]:
        """Note where the hashes of some places are found; return those places."""
        likely = self.mayhap[_first_bits(hashes)]
        hashes, places = hashes[likely], places[likely]
        if not len(self.hashes) or not len(hashes):
            return places[:0]
        number = np.searchsorted(self.hashes, hashes).clip(max=len(self.hashes) - 1)
        equal = self.hashes[number] == hashes
        number, places = number[equal], places[equal]
        new = self.first[number] < 0
        late, first = number[new][::-1], (places[new] + base)[::-1]
        self.first[late] = first  # of several, the last that is written is the first that stands
        return places


class Hashes:
    """Hashes of any grams of some symbols."""

    def __init__(self, symbols: Symbols) -> None:
        powers, self.inverse = _powers(len(symbols) + 1)
        with np.errstate(over="ignore"):
            summed = np.cumsum(_random()[symbols] * powers[: len(symbols)], dtype=np.uint64)
        self.sums = np.concatenate([np.zeros(1, np.uint64), summed])

    def at(self, places: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.uint64]:
        """Those of the grams that begin at `places`."""
        with np.errstate(over="ignore"):
            found: npt.NDArray[np.uint64] = self.sums[places + length] - self.sums[places]
            return found * self.inverse[places]


def _look_up(symbols: Symbols, grams: Sequence[Grams], lengths: Sequence[int], base: int) -> None:
    hashes = Hashes(symbols)
    places = np.arange(max(len(symbols) - lengths[0] + 1, 0))
    for each, length in zip(grams, lengths, strict=True):
        places = places[places + length <= len(symbols)]
        if not len(places):
            return
        places = each.look_up(hashes.at(places, length), places, base)


def _first_bits(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    return hashes >> np.uint64(64 - FILTER_BITS)


@functools.lru_cache(maxsize=2)
def _powers(num: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    def of(factor: int) -> npt.NDArray[np.uint64]:
        steps = np.full(num, factor, np.uint64)
        steps[0] = 1
        with np.errstate(over="ignore"):
            return np.cumprod(steps, dtype=np.uint64)

    return of(FACTOR), of(INVERSE)


@functools.cache
def _random() -> npt.NDArray[np.uint64]:
    draw = np.random.default_rng(20261126)
    return draw.integers(0, np.iinfo(np.uint64).max, APART + 1, dtype=np.uint64, endpoint=True)
