"""Tokenizers: bytes of a text to whole numbers and back.

    byte     256 tokens, one for each byte                                        `byte.py`
    char     a token for each character seen in training, bytes for all others    `char.py`
    bpe      pairs of tokens that are frequent in training joined, again and again `bpe.py`
    library  what others trained, as the `tokenizers` library runs it          `library.py`

But for some of the last, every token stands for some bytes, every single byte has a token: whatever
the text, the bytes of its tokens joined are the text. So bits are counted per byte, and compare
across tokenizers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from morphogen.core.errors import BundleError
from morphogen.modalities.text.tokenizers.bpe import BPE
from morphogen.modalities.text.tokenizers.byte import Byte
from morphogen.modalities.text.tokenizers.char import Char
from morphogen.modalities.text.tokenizers.library import Library
from morphogen.modalities.text.tokenizers.tokenizer import Decoder, Tokenizer

KINDS: dict[str, type[Tokenizer]] = {each.kind: each for each in (Byte, Char, BPE, Library)}

__all__ = ["BPE", "KINDS", "Byte", "Char", "Decoder", "Library", "Tokenizer", "tokenizer_from_json"]


def tokenizer_from_json(state: Mapping[str, Any]) -> Tokenizer:
    """Inverse of `Tokenizer.to_json`. Raises `BundleError` for what is no tokenizer."""
    kind = state.get("kind")
    if kind not in KINDS:
        raise BundleError("there is no such tokenizer", found=repr(kind), expected=", ".join(KINDS))
    return KINDS[kind].from_json(state)
