"""What is kept of every item of a source, in a few bytes each."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

NUMBERED = re.compile(r"^(.*[#@]|.*#row )(0|[1-9]\d{0,17})$", re.DOTALL)  # `file#12`, `file@4096`


class Names(Sequence[str]):
    """Names, those of rows of one file as that file's name and a number: 12 bytes each."""

    def __init__(self) -> None:
        self.stems: dict[str, int] = {}
        self.known: list[str] = []  # the stems by number
        self.stem, self.number = array("i"), array("q")

    def append(self, name: str) -> None:
        """Add one."""
        match = NUMBERED.match(name)
        stem, number = (match[1], int(match[2])) if match else (name, -1)
        if stem not in self.stems:
            self.stems[stem] = len(self.known)
            self.known.append(stem)
        self.stem.append(self.stems[stem])
        self.number.append(number)

    def __len__(self) -> int:
        return len(self.stem)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        stem, number = self.known[self.stem[place]], self.number[place]
        return stem if number < 0 else f"{stem}{number}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Digests(Sequence[bytes]):
    """Content hashes of 16 bytes, one behind the other."""

    def __init__(self) -> None:
        self.data = bytearray()

    def append(self, digest: bytes) -> None:
        """Add one."""
        assert len(digest) == 16
        self.data += digest

    def __len__(self) -> int:
        return len(self.data) // 16

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        place += len(self) * (place < 0)
        if not 0 <= place < len(self):
            raise IndexError(place)
        return bytes(self.data[16 * place : 16 * place + 16])

    def copies(self) -> list[tuple[int, int]]:
        """Pairs (first, other) of the same hash."""
        if not self.data:
            return []
        values = np.frombuffer(bytes(self.data), ">u8").reshape(-1, 2)
        order = np.lexsort((values[:, 1], values[:, 0]))  # of equals, the first stays first
        same = (values[order[1:]] == values[order[:-1]]).all(1)
        begins = np.flatnonzero(np.concatenate([[True], ~same]))
        firsts = order[begins][np.cumsum(np.concatenate([[True], ~same])) - 1]
        pairs = zip(firsts[1:][same].tolist(), order[1:][same].tolist(), strict=True)
        return sorted(pairs)
