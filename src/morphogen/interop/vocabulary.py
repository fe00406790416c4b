"""A tokenizer as the `tokenizer.json` of the `tokenizers` library, and back.

    byte   byte-level BPE that joins nothing: a token for each byte
    char   BPE that joins nothing, whose unknown characters become their bytes
    bpe    byte-level BPE, as it is

All of these encode the same texts to the same tokens, and decode them alike, but for bytes that are
no UTF-8: that library reads texts, and shows such bytes as U+FFFD. The network's tokens are those
of the texts, and one more, the start, which is last. What others trained goes as it came, and has a
start among its own tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morphogen.core.border import COUNT, read_json, read_text
from morphogen.core.errors import BundleError, RefusedPair
from morphogen.modalities.text.tokenizers import BPE, Byte, Char, Library, Tokenizer
from morphogen.modalities.text.tokenizers.files import read_tokenizer
from morphogen.modalities.text.tokenizers.tokenizer import byte_signs

START, END, OTHER = "<|startoftext|>", "<|endoftext|>", "<|special_{}|>"
BYTE = "<0x{:02X}>"  # a byte where characters are tokens
PLACES = {"added_tokens?": ([{"id": COUNT, "content": str}], None)}
SHAPE = {
    "added_tokens": [{"id": COUNT, "content": str}],
    "model": {"type": "BPE", "vocab": {str: COUNT}, "merges": list, "byte_fallback?": bool},
}


def to_library(tokenizer: Tokenizer) -> dict[str, Any]:
    """tokenizer.json: the tokens in the same order, then the start."""
    if isinstance(tokenizer, Library):
        told: dict[str, Any] = json.loads(tokenizer.told)
        return told
    texts = _signs(tokenizer)
    names = {n: OTHER.format(n) for n, sign in enumerate(texts) if not sign}
    names |= {tokenizer.end: END, len(texts): START}
    vocabulary = {sign: n for n, sign in enumerate(texts) if sign}
    if taken := vocabulary.keys() & set(names.values()):
        raise RefusedPair("a token is called like a mark", found=min(taken))
    # Marks stand among the others too: the library numbers those that it does not find anew.
    vocabulary |= {name: n for n, name in names.items()}
    by_bytes = not isinstance(tokenizer, Char)
    merges = tokenizer.merges if isinstance(tokenizer, BPE) else []
    level = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    fallback = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_mark(n, name) for n, name in sorted(names.items())],
        "normalizer": None,
        "pre_tokenizer": _cutting(tokenizer) if by_bytes else None,
        "post_processor": _started(len(texts)),
        "decoder": {"type": "ByteLevel", **level} if by_bytes else fallback,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": not by_bytes,
            "ignore_merges": isinstance(tokenizer, BPE) and tokenizer.whole_words,
            "vocab": vocabulary,
            "merges": [list(pair) for pair in merges],
        },
    }


def is_own(path: Path) -> bool:
    """Whether a tokenizer.json was written here: its last token is the start of a text."""
    found = read_json(path, PLACES)
    names = {each["id"]: each["content"] for each in found.get("added_tokens") or ()}
    return bool(names) and names[max(names)] == START


def from_others(path: Path, end: int, vocab_size: int) -> Library:
    """A tokenizer that others trained, for a network with room for so many tokens."""
    return Library(read_text(path), end=end, vocab_size=vocab_size)


def from_library(path: Path) -> Tokenizer:
    """Inverse of `to_library` for what was trained here: the last token is the start."""
    found = read_json(path, SHAPE)
    model, vocabulary = found["model"], found["model"]["vocab"]
    start = max(vocabulary.values(), default=0)
    if model.get("byte_fallback"):
        known = "".join(sign for sign in vocabulary if len(sign) == 1)
        return _checked(Char(known), vocabulary, path)
    if not model["merges"] and len(vocabulary) == len(Byte.tokens) + 1:
        return _checked(Byte(), vocabulary, path)
    whole = read_tokenizer(path)
    special = [n for n in whole.special if n != start]
    return BPE(
        whole.signs[:start], whole.merges, patterns=whole.patterns, special=special,
        end=whole.end, whole_words=whole.whole_words,
    )  # fmt: skip


def _checked(tokenizer: Tokenizer, vocabulary: Mapping[str, int], path: Path) -> Tokenizer:
    wanted = to_library(tokenizer)["model"]["vocab"]
    if wanted != vocabulary:
        raise BundleError(
            "the vocabulary is not one of this kind",
            found=f"{len(vocabulary):,} tokens, in other order or of other texts",
            expected=f"the {len(wanted):,} of the tokenizer {tokenizer.kind}",
            where=path,
        )
    return tokenizer


def _signs(tokenizer: Tokenizer) -> list[str]:
    """What the library calls each token; "" for those that are no text."""
    if isinstance(tokenizer, BPE):
        return tokenizer.signs
    if isinstance(tokenizer, Char):
        return [*tokenizer.characters, *map(BYTE.format, tokenizer.bytes), ""]
    return [*byte_signs(), ""]


def _cutting(tokenizer: Tokenizer) -> dict[str, Any]:
    """What cuts a text into words, and these into bytes."""
    patterns = tokenizer.patterns if isinstance(tokenizer, BPE) else []
    by_words = isinstance(tokenizer, BPE) and not patterns
    level = {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": by_words,
    }  # fmt: skip
    cuts = [
        {"type": "Split", "pattern": {"Regex": each}, "behavior": "Isolated", "invert": False}
        for each in patterns
    ]
    return {"type": "Sequence", "pretokenizers": [*cuts, level]} if cuts else level


def _started(start: int) -> dict[str, Any]:
    """A text begins with the start."""
    first, text = {"SpecialToken": {"id": START, "type_id": 0}}, {"id": "A", "type_id": 0}
    second = {"Sequence": {"id": "B", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [first, {"Sequence": text}],
        "pair": [first, {"Sequence": text}, second],
        "special_tokens": {START: {"id": START, "ids": [start], "tokens": [START]}},
    }


def _mark(number: int, name: str) -> dict[str, Any]:
    ways = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": name, **ways, "special": True}
