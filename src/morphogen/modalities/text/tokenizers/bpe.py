r"""Byte-level BPE: frequent pairs of tokens joined, again and again (Sennrich et al. 2016, on bytes
as in GPT-2, Radford et al. 2019), by the `tokenizers` library.

A text is cut into words by a pattern; a word starts as its bytes, of which neighbours are joined in
the order in which training joined them, as long as any can be:

    h a r b o u r  ->  h ar b o u r  ->  h ar b ou r  ->  har b ou r  ->  ..  ->  harbour

Bytes that are no UTF-8 are tokens of their own. In files of this kind each byte stands as one
printable character, so that a token is a word of plain text ("Ġthe" for " the").
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from morphogen.core.border import COUNT, check_shape
from morphogen.core.errors import BundleError
from morphogen.modalities.text.tokenizers.tokenizer import Tokenizer, byte_signs, in_parts

SHAPE = {
    "kind": "bpe", "tokens": [str], "merges": [[COUNT]], "patterns": [str], "special": [COUNT],
    "end": COUNT, "whole_words": bool,
}  # fmt: skip
MOST_TOKENS = 1 << 20
LONGEST_WORD = 64  # characters of a word whose tokens are remembered
MOST_WORDS = 1 << 18  # remembered
# What Unicode calls white space. GPT-2's pattern ends a word before it, whatever comes next: so
# that text can be cut there, and the tokens of a word be remembered.
WHITE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
WORD = re.compile(f"[{WHITE}]*[^{WHITE}]+|[{WHITE}]+")


class BPE(Tokenizer):
    """Byte-level BPE with this vocabulary.

    `signs` (V,) are the tokens as files write them, "" where a number is not used, or is no text
    (`special`); `merges` pairs of tokens, the first joined first; `patterns` cut words, none are
    GPT-2's. With `whole_words`, a word that is a token is one without looking at merges.
    """

    kind: ClassVar[str] = "bpe"

    def __init__(
        self,
        signs: Sequence[str],
        merges: Sequence[tuple[str, str]],
        *,
        patterns: Sequence[str] = (),
        special: Iterable[int] = (),
        end: int | None = None,
        whole_words: bool = False,
    ) -> None:
        none = {*special} if end is None else {*special, end}
        self.end = len(signs) if end is None else end
        self.signs = ["" if n in none else sign for n, sign in enumerate(signs)]
        self.signs += [""] * (self.end == len(signs))
        self.special = sorted(none | {self.end})
        self.merges, self.patterns, self.whole_words = list(merges), list(patterns), whole_words
        values = {sign: value for value, sign in enumerate(byte_signs())}
        self.tokens = [bytes(map(values.__getitem__, sign)) for sign in self.signs]
        numbers = {token: n for n, token in enumerate(self.tokens)}
        self._of_byte = np.array([numbers[bytes([value])] for value in range(256)])
        self._words: dict[str, tuple[int, ...]] = {}

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> BPE:
        """At most `vocab_size` tokens, the end among them: as many as there are pairs that come
        twice. The same for the same texts."""
        from tokenizers import pre_tokenizers, trainers

        trained = _built({}, [], ())
        signs = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 1, min_frequency=2, initial_alphabet=sorted(signs),
            special_tokens=[], show_progress=False,
        )  # fmt: skip
        whole = (text.encode("utf-8", "replace").decode() for text in texts)
        trained.train_from_iterator(whole, trainer)
        numbers = trained.get_vocab(with_added_tokens=False)
        return cls(sorted(numbers, key=numbers.__getitem__), _merges_of(trained))

    # -- encoding --------------------------------------------------------------------------------

    def encode(self, data: bytes) -> np.ndarray:
        return in_parts(data, self._encode_text, self._of_byte)

    def _encode_text(self, text: str) -> np.ndarray:
        """Text without lone bytes. Words come again: that is several times faster."""
        if self.patterns:
            return np.array(self._library.encode_batch_fast([text])[0].ids, np.int64)
        known, words = self._words, WORD.findall(text)
        new = list({word for word in words if word not in known})
        encoded = self._library.encode_batch_fast(new) if new else []
        fresh = {word: tuple(each.ids) for word, each in zip(new, encoded, strict=True)}
        found = [known[word] if word in known else fresh[word] for word in words]
        if len(known) + len(fresh) > MOST_WORDS:
            self._words = known = {}
        known |= {word: ids for word, ids in fresh.items() if len(word) <= LONGEST_WORD}
        return np.fromiter(itertools.chain.from_iterable(found), np.int64)

    @cached_property
    def _library(self) -> Any:
        """The tokenizer of the `tokenizers` library. It knows no special tokens: text that looks
        like one stays text."""
        numbers = {sign: n for n, sign in enumerate(self.signs) if sign}
        return _built(numbers, self.merges, self.patterns, self.whole_words)

    # -- disk --------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        numbers = {sign: n for n, sign in enumerate(self.signs) if sign}
        return {
            "kind": self.kind,
            "tokens": self.signs,
            "merges": [[numbers[a], numbers[b]] for a, b in self.merges],
            "patterns": self.patterns,
            "special": self.special,
            "end": self.end,
            "whole_words": self.whole_words,
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> BPE:
        check_shape(state, SHAPE, "the tokenizer")
        signs, end = state["tokens"], state["end"]
        merges = [[signs[n] for n in pair if n < len(signs)] for pair in state["merges"]]
        check_parts(signs, merges, "the tokenizer", BundleError)
        if end >= len(signs):
            raise BundleError("the tokenizer has no end", found=end, expected=f"below {len(signs)}")
        return cls(
            signs, [(a, b) for a, b in merges], patterns=state["patterns"],
            special=state["special"], end=end, whole_words=state["whole_words"],
        )  # fmt: skip


def check_parts(
    signs: Sequence[str], merges: Sequence[Sequence[str]], where: object, error: type[Any]
) -> None:
    """Raise `error` where these make no byte-level BPE, or one that loses bytes."""
    known, bytes_ = set(signs) - {""}, byte_signs()
    told: dict[str, Any] = {"where": where, "hint": "--set modality.tokenizer=bpe trains one"}
    if len(signs) > MOST_TOKENS:
        raise error("the tokenizer is too large", found=f"{len(signs):,} tokens", **told)
    if missing := [value for value, sign in enumerate(bytes_) if sign not in known]:
        raise error(
            "the tokenizer would lose text: it has no token for some bytes",
            found=f"nothing for {len(missing)} of them, {missing[0]:#04x} the first",
            expected="byte-level BPE, as GPT-2's",
            **told,
        )
    alphabet = set(bytes_)
    if strange := next((sign for sign in known if not alphabet.issuperset(sign)), None):
        raise error("a token of the tokenizer is not written as bytes are", found=strange, **told)
    if len(known) < sum(map(bool, signs)):
        raise error("the tokenizer has a token twice", **told)
    for pair in merges:
        if len(pair) != 2 or not known.issuperset(pair) or "".join(pair) not in known:
            raise error(
                "the tokenizer joins what is no token", found=" ".join(map(repr, pair)), **told
            )


def _merges_of(trained: Any) -> list[tuple[str, str]]:
    """The pairs that a trained tokenizer joins, in order."""
    found = json.loads(trained.to_str())["model"]["merges"]
    return [(a, b) for a, b in found]


def _built(
    numbers: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    patterns: Sequence[str],
    whole_words: bool = False,
) -> Any:
    """A tokenizer of the library."""
    from tokenizers import Regex, models, pre_tokenizers
    from tokenizers import Tokenizer as Library

    built = Library(models.BPE(dict(numbers), list(merges), ignore_merges=whole_words))
    cut: list[Any] = [pre_tokenizers.Split(Regex(each), "isolated") for each in patterns]
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not patterns)
    built.pre_tokenizer = pre_tokenizers.Sequence([*cut, level]) if cut else level
    return built
