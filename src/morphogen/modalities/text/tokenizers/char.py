"""Characters: one token for each that was seen in training, the bytes of all others.

Characters come in the order of their code points, then the bytes that are none of them, then the
end. For text of ASCII alone that is as many tokens as bytes, in other order; it is for languages
whose characters take several bytes each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from morphogen.core.border import check_shape
from morphogen.core.errors import BundleError
from morphogen.modalities.text.tokenizers.tokenizer import Tokenizer

NUM_CODES = 0x110000  # code points of Unicode
LONE = 0xDC00  # a byte that is no character stands in a `str` as this and its value (PEP 383)
SHAPE = {"kind": "char", "characters": str}


class Char(Tokenizer):
    """One token for each of `characters`; other characters become the bytes of their UTF-8."""

    kind: ClassVar[str] = "char"

    def __init__(self, characters: Iterable[str]) -> None:
        known = sorted(c for c in set(characters) if not "\ud800" <= c <= "\udfff")
        self.characters = "".join(known)
        single = {ord(c) for c in known if c < "\x80"}
        self.bytes = [value for value in range(256) if value not in single]
        self.tokens = [*(c.encode() for c in known), *(bytes([value]) for value in self.bytes), b""]
        self.end = len(self.tokens) - 1

    def encode(self, data: bytes) -> np.ndarray:
        text = data.decode("utf-8", "surrogateescape")
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        found = self._numbers[codes]
        if not len(odd := np.flatnonzero(found < 0)):
            return found.astype(np.int64)
        parts, last = [], 0
        for place in odd.tolist():
            spelled = [LONE + value for value in text[place].encode()]
            parts += [found[last:place], self._numbers[spelled]]
            last = place + 1
        return np.concatenate([*parts, found[last:]]).astype(np.int64)

    @cached_property
    def _numbers(self) -> np.ndarray:
        """The token of each code point, (NUM_CODES,); -1 for those that have none. Bytes have
        theirs where a lone byte stands."""
        numbers = np.full(NUM_CODES, -1, np.int32)
        numbers[[ord(c) for c in self.characters]] = np.arange(len(self.characters))
        first = len(self.characters)
        numbers[[LONE + value for value in self.bytes]] = np.arange(first, self.end)
        ascii_seen = [ord(c) for c in self.characters if c < "\x80"]
        numbers[[LONE + value for value in ascii_seen]] = numbers[ascii_seen]
        lone = [value for value in self.bytes if value < 0x80]
        numbers[lone] = numbers[[LONE + value for value in lone]]
        return numbers

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "characters": self.characters}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Char:
        check_shape(state, SHAPE, "the tokenizer")
        found = cls(state["characters"])
        if found.characters != state["characters"]:
            raise BundleError("the characters of the tokenizer are not sorted, or come twice")
        return found
