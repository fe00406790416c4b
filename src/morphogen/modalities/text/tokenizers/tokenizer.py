"""What every tokenizer is: a numbered list of byte strings, and a way to cut a text into them.

Legend: V tokens, the end among them; L tokens of a text.
"""

from __future__ import annotations

import codecs
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

LONE = re.compile("([\udc80-\udcff]+)")  # bytes that are no UTF-8


class Tokenizer(ABC):
    """Bytes to tokens and back. `decode(encode(data)) == data` for all bytes whatever."""

    kind: ClassVar[str]
    tokens: Sequence[bytes]  # (V,): what each stands for; the end, and marks of its kind, nothing
    end: int  # the token after the last one of a text

    marks: Mapping[str, int] = {}  # tokens that are no text, by the names that templates give them

    @abstractmethod
    def encode(self, data: bytes) -> np.ndarray:
        """The tokens (L,) of some bytes, int64, without an end. Names of marks stay text."""

    def encode_marked(self, data: bytes) -> np.ndarray:
        """The tokens (L,) of what a template has written, in which names of marks stand for them.
        What users write is not to be given here."""
        return self.encode(data)

    def decode(self, ids: Iterable[int]) -> bytes:
        """The bytes of some tokens."""
        return b"".join(map(self.tokens.__getitem__, ids))

    def token_bytes(self, token: int) -> bytes:
        """What one token stands for."""
        return self.tokens[token]

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self.tokens)

    @cached_property
    def byte_lengths(self) -> np.ndarray:
        """How many bytes each token stands for: (V,), int64."""
        return np.array(list(map(len, self.tokens)), np.int64)

    def symbols(self, ids: np.ndarray) -> np.ndarray:
        """The bytes of some tokens (L,), and 256 for each end: (S,), uint16."""
        flat, starts, lengths = self._symbols
        each = lengths[ids]
        before = np.cumsum(each) - each
        return flat[np.repeat(starts[ids] - before, each) + np.arange(each.sum())]

    @cached_property
    def _symbols(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Those of all tokens one after another, where each begins, and how many it has."""
        lengths = self.byte_lengths.copy()
        lengths[self.end] = 1
        flat = np.frombuffer(b"".join(self.tokens), np.uint8).astype(np.uint16)
        flat = np.insert(flat, int(self.byte_lengths[: self.end].sum()), 256)
        return flat, np.cumsum(lengths) - lengths, lengths

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain JSON with the `kind`; `from_json` is the inverse."""

    @classmethod
    @abstractmethod
    def from_json(cls, state: Mapping[str, Any]) -> Tokenizer:
        """Inverse of `to_json`. Raises `BundleError` for what is no such tokenizer."""


def byte_signs() -> list[str]:
    """The printable character that each byte stands as, in vocabularies of byte-level BPE."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(value if value in plain else next(others)) for value in range(256)]


def in_parts(data: bytes, encode: Callable[[str], np.ndarray], of_byte: np.ndarray) -> np.ndarray:
    """The tokens of texts, and of bytes between them that are no UTF-8, which have `of_byte`."""
    parts = LONE.split(data.decode("utf-8", "surrogateescape"))  # lone bytes at odd places
    found = []
    for number, part in enumerate(parts):
        if number % 2:
            lone = np.frombuffer(part.encode("utf-8", "surrogateescape"), np.uint8)
            found.append(of_byte[lone])
        elif part:
            found.append(encode(part))
    return np.concatenate(found) if found else np.empty(0, np.int64)


class Decoder:
    """Tokens one by one -> the text so far. The bytes of a character that is not complete are held
    back until it is, or turns out to be none. All that is given makes `codec.decode` of them.

    `mark` stands for an end; without one, nothing comes after the first end.
    """

    def __init__(self, tokenizer: Tokenizer, mark: str | None = None) -> None:
        self.tokenizer, self.mark, self.ended = tokenizer, mark, False
        self._bytes = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def feed(self, token: int) -> str:
        """What is certain after one more token."""
        if self.ended:
            return ""
        if token != self.tokenizer.end:
            return self._bytes.decode(self.tokenizer.token_bytes(token))
        self.ended = self.mark is None
        return self.finish() + (self.mark or "")

    def finish(self) -> str:
        """What was held back: there are no more tokens."""
        rest = self._bytes.decode(b"", final=True)
        self._bytes.reset()
        return rest
