"""The bytes themselves: no vocabulary to learn, every language, the longest sequences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from morphogen.modalities.text.tokenizers.tokenizer import Tokenizer


class Byte(Tokenizer):
    """One token for each byte, and one for the end."""

    kind: ClassVar[str] = "byte"
    tokens = (*(bytes([value]) for value in range(256)), b"")
    end = 256

    def encode(self, data: bytes) -> np.ndarray:
        return np.frombuffer(data, np.uint8).astype(np.int64)

    def decode(self, ids: Iterable[int]) -> bytes:
        return bytes(each for each in ids if each != self.end)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Byte:
        return cls()
