"""What is kept of every item of a source, in a few bytes each: sequences that hold no object for
each item.

    Names       `corpus.txt#12`: the file once, and a number
    Repeated    values of which many are the same (splits, labels): each once, and which it is
    Values      values of which few are the same (captions): as JSON, one behind the other
    Digests     content hashes, one behind the other

Legend: N items.
"""

from __future__ import annotations

import itertools
import json
import re
from abc import abstractmethod
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Self, TypeVar

import numpy as np

from morphogen.sources import Coded

# `file#12`, `file@4096`, `file#row 2`
NUMBERED = re.compile(r"^(.*[#@]|.*#(?:row|line|block) )(0|[1-9]\d{0,17})$", re.DOTALL)
CAPTION = re.compile(r"#caption \d+$")  # what the second caption of an item adds to its name
T = TypeVar("T")


class Column(Sequence[T]):
    """A value for every item, in order."""

    @classmethod
    def of(cls, values: Iterable[T]) -> Self:
        """A column of these."""
        column = cls()
        for value in values:
            column.append(value)
        return column

    @abstractmethod
    def append(self, value: T) -> None:
        """Add one."""

    @abstractmethod
    def at(self, place: int) -> T:
        """The value at 0 <= place < N."""

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self.at(i) for i in range(*place.indices(len(self)))]
        place = int(place) + len(self) * (place < 0)
        if not 0 <= place < len(self):
            raise IndexError(place)
        return self.at(place)

    def __iter__(self) -> Iterator[T]:
        return map(self.at, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Texts(Column[str]):
    """Texts, one behind the other: 8 bytes each and its UTF-8."""

    def __init__(self) -> None:
        self.data, self.ends = bytearray(), array("q")

    def append(self, value: str) -> None:
        self.data += value.encode("utf-8", "surrogatepass")
        self.ends.append(len(self.data))

    def __len__(self) -> int:
        return len(self.ends)

    def at(self, place: int) -> str:
        start = self.ends[place - 1] if place else 0
        return self.data[start : self.ends[place]].decode("utf-8", "surrogatepass")


class Values(Column[Any]):
    """What JSON can say, and all else as it prints: 8 bytes each and its JSON."""

    def __init__(self) -> None:
        self.texts = Texts()

    def append(self, value: Any) -> None:
        text = "null" if value is None else json.dumps(value, default=str, ensure_ascii=False)
        self.texts.append(text)

    def extend(self, column: Coded) -> None:
        """Add many."""
        if list(column.values) == [None]:
            start = len(self.texts.data)
            self.texts.data += b"null" * len(column.codes)
            self.texts.ends.extend(range(start + 4, len(self.texts.data) + 1, 4))
            return
        for value in column.each():
            self.append(value)

    @property
    def are_none(self) -> bool:
        """Whether nothing is said by any."""
        return self.texts.data == b"null" * len(self)

    def __len__(self) -> int:
        return len(self.texts)

    def at(self, place: int) -> Any:
        text = self.texts.at(place)
        return None if text == "null" else json.loads(text)


class Names(Column[str]):
    """Names, those of rows of one file, which follow one another, as that file's name and a number:
    12 bytes each."""

    def __init__(self) -> None:
        self.stems, self.last = Texts(), ""
        self.stem, self.number = array("i"), array("q")

    def append(self, value: str) -> None:
        match = NUMBERED.match(value)
        stem, number = (match[1], int(match[2])) if match else (value, -1)
        if stem != self.last or not self.stems:
            self.stems.append(stem)
            self.last = stem
        self.stem.append(len(self.stems) - 1)
        self.number.append(number)

    def extend(self, stem: str, numbers: np.ndarray) -> None:
        """Add those of rows that follow one another: one and the same stem, and a number each."""
        if not len(numbers):
            return
        self.append(f"{stem}{numbers[0]}")
        self.stem.extend(itertools.repeat(len(self.stems) - 1, len(numbers) - 1))
        self.number.extend(numbers[1:].tolist())

    def runs(self) -> Iterator[tuple[int, int]]:
        """Where items of one stem begin that follow one another, and how many they are."""
        stem = np.asarray(self.stem)
        starts = np.flatnonzero(np.diff(stem, prepend=-1))
        yield from zip(starts.tolist(), np.diff(starts, append=len(stem)).tolist(), strict=True)

    def __len__(self) -> int:
        return len(self.stem)

    def at(self, place: int) -> str:
        stem, number = self.stems.at(self.stem[place]), self.number[place]
        return stem if number < 0 else f"{stem}{number}"


class Repeated(Column[Any]):
    """Values of which many are the same: each once, and 4 bytes an item."""

    def __init__(self) -> None:
        self.kinds: list[Any] = []  # the values that there are
        self.code = array("i")  # of each item, which of them it has
        self._codes: dict[Hashable, int] = {}

    def append(self, value: Any) -> None:
        self.code.append(self._add(value))

    def extend(self, column: Coded) -> None:
        """Add many, of which the different ones come in the order of the items."""
        codes = np.array([self._add(value) for value in column.values], np.int32)
        self.code.frombytes(codes[column.codes].tobytes())

    def __setitem__(self, place: int, value: Any) -> None:
        self.code[place] = self._add(value)

    def __len__(self) -> int:
        return len(self.code)

    def at(self, place: int) -> Any:
        return self.kinds[self.code[place]]

    def __iter__(self) -> Iterator[Any]:
        return map(self.kinds.__getitem__, self.code)

    def __contains__(self, value: object) -> bool:
        return self.count(value) > 0

    def count(self, value: Any) -> int:
        return int(np.count_nonzero(self.codes == self.code_of(value)))

    @property
    def codes(self) -> np.ndarray:
        """Which of the kinds each item has (N,)."""
        return np.asarray(self.code)

    def where(self, test: Callable[[Any], bool]) -> list[int]:
        """The places of the values that pass a test."""
        passed = [code for code, kind in enumerate(self.kinds) if test(kind)]
        places: list[int] = np.flatnonzero(np.isin(self.codes, passed)).tolist()
        return places

    def code_of(self, value: Any) -> int:
        """Which of the kinds a value is; -1 for what no item has."""
        return self._codes.get(_key(value), -1)

    def _add(self, value: Any) -> int:
        code = self._codes.setdefault(_key(value), len(self.kinds))
        if code == len(self.kinds):
            self.kinds.append(value)
        return code


def _key(value: Any) -> Hashable:
    """1 and True are two; lists and dicts are told apart by how they print."""
    return type(value), value if value.__hash__ is not None else repr(value)


class Digests(Column[bytes]):
    """Content hashes of 16 bytes, one behind the other."""

    def __init__(self) -> None:
        self.data = bytearray()

    def append(self, value: bytes) -> None:
        assert len(value) == 16
        self.data += value

    def extend(self, values: bytes | bytearray) -> None:
        """Add many, one behind the other."""
        assert len(values) % 16 == 0
        self.data += values

    def __len__(self) -> int:
        return len(self.data) // 16

    def at(self, place: int) -> bytes:
        return bytes(self.data[16 * place : 16 * place + 16])

    @property
    def words(self) -> np.ndarray:
        """Both halves of each as whole numbers (N, 2), in the order in which bytes compare."""
        return np.frombuffer(self.data, ">u8").astype(np.uint64).reshape(-1, 2)


def firsts(values: np.ndarray) -> np.ndarray:
    """The number of the first row that is the same as each row of (N,) or (N, K)."""
    columns = [values] if values.ndim == 1 else list(values.T)
    order = np.lexsort(columns)  # of equals, the first stays first
    other = np.ones(len(values), bool)
    other[1:] = False
    for column in columns:  # one by one: rows put in order would be copies of them all
        ordered = column[order]
        other[1:] |= ordered[1:] != ordered[:-1]
    begins = np.flatnonzero(other)
    found = np.empty(len(values), np.int64)
    found[order] = np.repeat(order[begins], np.diff(begins, append=len(values)))
    return found


def one_of_each_file(names: Iterable[str]) -> list[str]:
    """Of the names of one item with several captions, `a.png` and `a.png#caption 2`, the first."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(CAPTION.sub("", name), name)
    return list(found.values())


def copies(firsts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs (first, other) of rows that are the same."""
    later = np.flatnonzero(firsts != np.arange(len(firsts)))
    return zip(map(int, firsts[later]), map(int, later), strict=True)
