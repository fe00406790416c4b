"""A tokenizer that others trained, as the `tokenizers` library runs it: any `tokenizer.json`.

    byte-level BPE      GPT-2, Llama 3, Qwen, SmolLM          Ġthe    stands for the bytes " the"
    BPE with fallback   Llama 2, Mistral, Gemma               ▁the    " the"; <0x0A> one byte
    WordPiece           BERT                                  the     " the"; ##ing "ing"

The tokens of a text are those that the library gives, without what it adds before and after. Marks
("<|im_start|>") are recognised where they are asked for, in what a template has written: in other
texts they stay text. Some kinds lose what they have no token for, upper case or white space.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from morphogen.core.border import COUNT, SIZE, check_shape, parse_json
from morphogen.core.errors import BundleError
from morphogen.modalities.text.tokenizers.tokenizer import Tokenizer, byte_signs, in_parts

STATE = {"kind": "library", "told": str, "end": COUNT, "vocab_size": SIZE}
TOLD = {"model": {"type": str}, "added_tokens?": (list, None), "decoder?": (dict, None)}
SPACE = "▁"  # what stands for one in vocabularies of SentencePiece


class Library(Tokenizer):
    """The tokenizer of the `tokenizer.json` that is `told`. A network may have room for more tokens
    than it knows, `vocab_size` in all, the further ones nothing.

    Raises `BundleError` where it is none, or has more tokens than there is room for.
    """

    kind: ClassVar[str] = "library"

    def __init__(self, told: str, *, end: int, vocab_size: int | None = None) -> None:
        state = parse_json(told, TOLD, "tokenizer.json")
        self.told, self.end = json.dumps(state, ensure_ascii=False), end
        self._plain = _read(told)
        numbers: dict[str, int] = self._plain.get_vocab(with_added_tokens=True)
        num = max([end, *numbers.values()]) + 1
        room = num if vocab_size is None else vocab_size
        if num > room:
            raise BundleError(
                "the tokenizer has tokens for which the network has no embedding",
                found=f"{num:,} tokens", expected=f"at most {room:,}, the rows of the embedding",
            )  # fmt: skip
        added = self._plain.get_added_tokens_decoder()
        self.marks = {each.content: n for n, each in added.items() if each.special}
        kinds = {*_kinds(state.get("decoder")), *_kinds(state.get("pre_tokenizer"))}
        self.by_bytes = "ByteLevel" in kinds
        self.strips = bool({"Metaspace", "Strip", "WordPiece"} & kinds)  # a space before the first
        spelled = _spelled(state["model"]["type"], self.by_bytes)
        self.tokens = [b""] * room
        for sign, n in numbers.items():
            self.tokens[n] = sign.encode() if n in added else spelled(sign)
        for n in {*self.marks.values(), end}:
            self.tokens[n] = b""

    def encode(self, data: bytes) -> np.ndarray:
        if self.by_bytes:
            return in_parts(data, lambda text: _ids(self._plain, text), self._of_byte)
        return _ids(self._plain, data.decode("utf-8", "replace"))

    def encode_marked(self, data: bytes) -> np.ndarray:
        return _ids(self._marking, data.decode("utf-8", "replace"))

    def decode(self, ids: Iterable[int]) -> bytes:
        found = super().decode(ids)
        return found.removeprefix(b" ") if self.strips else found

    @cached_property
    def _marking(self) -> Any:
        """The same, which takes the names of marks for marks."""
        found = _read(self.told)
        found.encode_special_tokens = False
        return found

    @cached_property
    def _of_byte(self) -> np.ndarray:
        numbers = {token: n for n, token in enumerate(self.tokens)}
        return np.array([numbers.get(bytes([value]), self.end) for value in range(256)])

    # -- disk --------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "told": self.told,
            "end": self.end,
            "vocab_size": len(self.tokens),
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Library:
        check_shape(state, STATE, "the tokenizer")
        return cls(state["told"], end=state["end"], vocab_size=state["vocab_size"])


def _read(told: str) -> Any:
    from tokenizers import Tokenizer as Read

    try:
        found = Read.from_str(told)
    except Exception as error:  # the library raises no other type
        raise BundleError(f"the tokenizer cannot be used: {error}") from error
    found.no_truncation()
    found.no_padding()
    found.encode_special_tokens = True  # as text
    return found


def _ids(library: Any, text: str) -> np.ndarray:
    found = library.encode_batch_fast([text], add_special_tokens=False)[0]
    return np.array(found.ids, np.int64)


def _kinds(part: Any) -> Iterator[str]:
    """The types of a part of a tokenizer.json, and of what it is made of."""
    if not isinstance(part, dict):
        return
    yield str(part.get("type"))
    for inner in (*(part.get("decoders") or ()), *(part.get("pretokenizers") or ())):
        yield from _kinds(inner)


def _spelled(model: str, by_bytes: bool) -> Any:
    """What gives the bytes of a token as its file writes it."""
    if by_bytes:
        values = {sign: value for value, sign in enumerate(byte_signs())}

        def of_signs(sign: str) -> bytes:
            known = all(each in values for each in sign)
            return bytes(values[each] for each in sign) if known else sign.encode()

        return of_signs
    if model == "WordPiece":
        return lambda sign: (sign[2:] if sign.startswith("##") else " " + sign).encode()
    bytes_ = {f"<0x{value:02X}>": bytes([value]) for value in range(256)}
    return lambda sign: bytes_.get(sign) or sign.replace(SPACE, " ").encode()
