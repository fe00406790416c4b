"""Which tokenizer suits a text, and what the text is like: found in one pass over it.

    named       as the user says: byte, char, bpe, or where one lies
    auto        bpe from 4 MB on: fewer, longer tokens, so that a model sees further for its cost.
                Below that they would be too rare to be learned: byte; or char, where most
                characters take several bytes and there are not too many of them
    vocab_size  of bpe, where none is named: the power of two nearest to the square root of the
                bytes, 512 to 32,768. More data shows more tokens often enough

Training sees a sample of at most 16 MB, spread evenly over the text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from morphogen.core.errors import DataError, did_you_mean
from morphogen.core.storage import expanded
from morphogen.modalities.text.encodings import to_bytes
from morphogen.modalities.text.tokenizers import BPE, KINDS, Byte, Char, Tokenizer
from morphogen.modalities.text.tokenizers.files import read_tokenizer

BPE_FROM = 1 << 22  # bytes of text
SAMPLE = 1 << 24  # bytes that BPE is trained on, at most
SMALLEST, LARGEST = 1 << 9, 1 << 15  # vocabularies, where none is named
FEW_CHARACTERS = 4096  # different ones, for `char`
SEEN = 50  # times, each of them on average
WIDE = 1.5  # bytes of a character on average, for `char`


def check_tokenizer(name: str, vocab_size: int | None) -> None:
    """Raise `DataError` for what is no tokenizer, before anything is read."""
    if name not in ("auto", *KINDS) and not expanded(name).exists():
        raise DataError(
            f"there is no tokenizer {name!r}.{did_you_mean(name, ('auto', *KINDS))}",
            found=name,
            expected=f"auto, {', '.join(KINDS)}, or a folder with vocab.json and merges.txt, or "
            "with tokenizer.json",
        )
    if vocab_size is not None and name not in ("auto", "bpe"):
        raise DataError(
            f"the size of the vocabulary of {name!r} is not free",
            found=f"vocab_size={vocab_size}",
            hint="--set modality.tokenizer=bpe, or leave vocab_size out",
        )
    if vocab_size is not None and not 257 <= vocab_size <= 1 << 20:
        raise DataError(
            "the vocabulary does not fit",
            found=vocab_size,
            expected="257 (all bytes and the end) to 1048576",
        )


class Seen:
    """What a text is like: its lengths, its characters, a sample of it; added text by text."""

    def __init__(self, tokenizer: str, vocab_size: int | None) -> None:
        self.named = "bpe" if tokenizer == "auto" and vocab_size else tokenizer
        self.vocab_size = vocab_size
        self.lengths: Counter[int] = Counter()  # bytes
        self.num_bytes = self.num_characters = self.num_texts = 0
        self.characters: set[str] = set()
        self.sample: list[str] = []
        self.every, self._held = 1, 0  # each so many texts is in the sample

    def add(self, text: str) -> None:
        """One more text."""
        size = len(to_bytes(text))
        self.lengths[size] += 1
        self.num_bytes += size
        self.num_characters += len(text)
        if self.named == "char" or self.num_bytes < BPE_FROM:
            self.characters.update(text)
        if self.num_texts % self.every == 0 and self.named != "byte":
            self.sample.append(text)
            self._held += size
            while self._held > SAMPLE and len(self.sample) > 1:
                self.sample = self.sample[::2]
                self.every *= 2
                self._held = sum(map(len, self.sample))
        self.num_texts += 1

    @property
    def all_characters(self) -> str:
        """Those that there are; none where there is so much text that not all was looked at."""
        is_all = self.named == "char" or self.num_bytes < BPE_FROM
        return "".join(sorted(self.characters)) if is_all else ""

    def choose(self) -> tuple[Tokenizer, str]:
        """The tokenizer, and why it is that one."""
        name, why = self.named, "as asked for"
        if name == "auto":
            name, why = self._fitting()
        if name == "byte":
            return Byte(), f"byte: {why}"
        if name == "char":
            chars = Char(self.characters)
            count = f"char, {len(chars.characters):,} characters and the bytes of all others"
            return chars, f"{count}: {why}"
        if name != "bpe":
            found = read_tokenizer(name)
            return found, f"bpe of {found.vocab_size:,} tokens: that of {Path(name).name}"
        wanted = self.vocab_size or self._suitable_size()
        trained = BPE.train(self._training_texts(), wanted)
        return (
            trained,
            f"bpe of {trained.vocab_size:,} tokens{self._trained_on(trained, wanted)}"
            + (f": {why}" if self.named == "auto" else ""),
        )

    def _fitting(self) -> tuple[str, str]:
        if self.num_bytes >= BPE_FROM:
            return "bpe", f"{self.num_bytes / 1e6:,.1f} MB of text show each token often"
        few = f"{self.num_bytes:,} bytes of text are too few to learn longer tokens from"
        wide = self.num_bytes > WIDE * max(self.num_characters, 1)
        num = len(self.characters)
        if wide and num <= min(FEW_CHARACTERS, self.num_characters / SEEN):
            return "char", f"{few}, and most characters take several"
        return "byte", few

    def _suitable_size(self) -> int:
        size = 1 << round(math.log2(max(self.num_bytes, 1)) / 2)
        return min(max(size, SMALLEST), LARGEST)

    def _training_texts(self) -> Iterator[str]:
        left = SAMPLE
        for text in self.sample:  # one text alone may be longer than all that is wanted
            yield text[:left]
            left -= len(text)
            if left <= 0:
                return

    def _trained_on(self, trained: Tokenizer, wanted: int) -> str:
        parts = []
        if trained.vocab_size < wanted:
            parts.append(f"of {wanted:,}, as no other pair comes twice")
        if self.every > 1 or self._held > SAMPLE:
            seen = min(self._held, SAMPLE)
            parts.append(f"trained on {seen / 1e6:,.0f} of {self.num_bytes / 1e6:,.0f} MB")
        return f" ({', '.join(parts)})" if parts else ""

    @property
    def is_whole(self) -> bool:
        """Whether the sample is all of the text."""
        return self.every == 1
