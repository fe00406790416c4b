"""The tokens of the data by number: atoms and bonds, and groups that often stand together.

A group is two tokens that are one from then on: pairs are joined in the order in which they came
most often (byte-pair encoding, Sennrich et al. 2016, over atoms: SPE, Li & Fourches 2021), by the
`tokenizers` library. A ring is then a token or two, which are closed whatever comes next, and a
molecule a third as long.
"""

from __future__ import annotations

import itertools
import json
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from morphogen.core.errors import DataError
from morphogen.modalities.molecule.tokens import (
    NOTHING,
    SEVERAL,
    Spelling,
    of_kekule,
    of_selfies,
    spelt,
    split_or_none,
)

FIRST = 0x4E00  # the sign that stands for token 0 where tokens are joined
ASCII, END = 128, "\n"  # characters that SMILES have; between molecules that are written together
MOST_SAMPLED = 1 << 18  # molecules whose lengths in groups are counted
MOST_PAIRED = 1 << 15  # of these, molecules that groups are found in: more find the same
MOST_HELD, TOGETHER = 1 << 18, 1 << 10  # molecules that are kept as numbers; joined at once
EACH, MOST_GROUPS, FEWEST_GROUPS = 200, 512, 16  # molecules for each group, unless told


class Signs:
    """Tokens, and the sign that stands for each: a character, as what joins pairs reads texts."""

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self.of: dict[str, str] = {}
        self._single = np.zeros(ASCII, np.uint32)  # the signs of tokens of one character
        self._single[ord(END)] = ord(END)
        self.add(tokens)

    def __len__(self) -> int:
        return len(self.of)

    def add(self, tokens: Iterable[str]) -> None:
        """Signs for those that have none, in the order in which they come."""
        for token in tokens:
            if token not in self.of:
                self.of[token] = chr(FIRST + len(self.of))
                if len(token) == 1:
                    self._single[ord(token)] = ord(self.of[token])

    def written(self, texts: Sequence[str]) -> list[str]:
        """Texts of tokens, in signs. Raises `KeyError` for a token that has none."""
        if not texts:
            return []
        joined = SEVERAL.sub(lambda found: self.of[found[0]], END.join(texts))
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        signs = np.where(codes < ASCII, self._single[codes % ASCII], codes)
        other = (signs != ord(END)) & ~((signs >= FIRST) & (signs < FIRST + len(self)))
        if other.any():
            raise KeyError(chr(codes[other][0]))
        return signs.tobytes().decode("utf-32-le").split(END)


class Seen:
    """The tokens of molecules, as they come."""

    def __init__(self, spelling: Spelling) -> None:
        self.spelling = spelling
        self.signs = Signs()
        self.sample: list[str] = []
        self.lengths: Counter[int] = Counter()  # tokens, with the end

    def add(self, texts: Sequence[str]) -> None:
        """Molecules in the spelling; none in place of what has no such."""
        try:
            written = self.signs.written(texts)
        except KeyError:  # of a token that is new, or of none
            tokens = list(map(split_or_none, texts))
            self.signs.add(itertools.chain.from_iterable(tokens))
            written = self.signs.written(list(map("".join, tokens)))
        self.lengths.update(len(each) + 1 for each in written)
        self.sample += written[: MOST_SAMPLED - len(self.sample)]

    def vocabulary(self, merges: int | None) -> tuple[Vocabulary, Counter[int]]:
        """The vocabulary with so many groups, or as many as the data bears; and how many molecules
        have so many of its tokens."""
        total = self.lengths.total()
        if merges is None:
            merges = min(total // EACH, MOST_GROUPS)
            merges = merges if merges >= FEWEST_GROUPS else 0
        some = self.sample[:: -(-len(self.sample) // MOST_PAIRED) or 1]
        joined = _pairs(some, len(self.signs), merges) if merges else []
        found = Vocabulary(list(self.signs.of), self.spelling, joined)
        if not joined or len(self.sample) < total:
            return found, self.lengths
        lengths: Counter[int] = Counter()
        for start in range(0, total, TOGETHER):
            some = self.sample[start : start + TOGETHER]
            numbers = found.grouped(some)
            lengths.update(len(own) + 1 for own in numbers)
            found.ahead.update(zip(some, numbers, strict=True))
        return found, lengths


class Written:
    """Molecules in a spelling: what was read one by one is at hand until it is numbered."""

    def __init__(self, spelling: Spelling) -> None:
        self.spelling = spelling
        self._known: dict[str, str] = {}

    def add(self, smiles: str, text: str) -> None:
        """What was read, as long as there is room."""
        if text and len(self._known) < MOST_HELD:
            self._known[smiles] = text

    def text(self, smiles: str) -> str:
        """A molecule in the spelling. Raises `DataError` where it has no such."""
        return self._known.get(smiles) or spelt(smiles, self.spelling)

    def text_or_none(self, smiles: str) -> str:
        """The same; "" where it has no such."""
        try:
            return self.text(smiles)
        except DataError:
            return ""

    def take(self, smiles: str) -> str:
        """The same, for the last time."""
        return self._known.pop(smiles, None) or spelt(smiles, self.spelling)


class Vocabulary:
    """Tokens and groups of the training data, one that stands for nothing, and one for the end."""

    def __init__(
        self, tokens: Sequence[str], spelling: Spelling, merges: Iterable[Sequence[int]] = ()
    ) -> None:
        self.tokens, self.spelling = list(tokens), spelling
        self.merges = [(int(a), int(b)) for a, b in merges]
        self.signs = Signs(self.tokens)
        self.parts = [(i,) for i in range(len(self.tokens))]  # of a group, the tokens by number
        for a, b in self.merges:
            self.parts.append((*self.parts[a], *self.parts[b]))  # type: ignore[arg-type]
        self.nothing = len(self.parts)
        self.end = self.nothing + 1
        self._held: dict[str, Sequence[int]] = {}  # what is checked is encoded next
        self.ahead: dict[
            str, Sequence[int]
        ] = {}  # in signs, those of which it was made, until then
        self.written = Written(spelling)

    @cached_property
    def joiner(self) -> Any:
        """What joins tokens, as signs, to groups."""
        from tokenizers import Tokenizer, models

        signs = [_signs(part) for part in self.parts]
        merges = [(signs[a], signs[b]) for a, b in self.merges]
        return Tokenizer(models.BPE({sign: i for i, sign in enumerate(signs)}, merges))

    def numbers(self, molecules: Sequence[str]) -> list[Sequence[int]]:
        """Molecules as tokens and groups by number. Raises `DataError` for one with a token that
        the training data does not have."""
        held = self._held
        if len(held) > MOST_HELD:
            held.clear()
        if missing := [smiles for smiles in dict.fromkeys(molecules) if smiles not in held]:
            new = self.joined([self.written.take(smiles) for smiles in missing])
            held.update(zip(missing, new, strict=True))
        return [held[smiles] for smiles in molecules]

    def joined(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """The same of molecules in the spelling."""
        try:
            signs = self.signs.written(texts)
        except KeyError as error:
            raise DataError(
                f"no training molecule has {error.args[0]!r}",
                hint="add molecules with it to the training split, or leave this one out",
            ) from error
        each = dict.fromkeys(signs)
        known = {own: self.ahead.pop(own) for own in each if own in self.ahead}
        new = [own for own in each if own not in known]
        known.update(zip(new, self.grouped(new), strict=True))
        return [known[own] for own in signs]

    def grouped(self, signs: Sequence[str]) -> list[Sequence[int]]:
        """Molecules in signs as groups by number."""
        if not self.merges or not signs:
            return [array("i", [ord(sign) - FIRST for sign in own]) for own in signs]
        return [array("i", own.ids) for own in self.joiner.encode_batch_fast(signs)]

    def loosely(self, smiles: str, most: int) -> list[int]:
        """Any text by number, at most so many, nothing in place of what is no molecule of these."""
        try:
            (found,) = self.numbers([smiles])
        except DataError:
            return [self.nothing]
        return list(found) if len(found) <= most else [*found[: most - 1], self.nothing]

    def text(self, numbers: Iterable[int]) -> str:
        """The SMILES of tokens by number, up to the first end; of Kekule's form, the canonical one
        where it is a molecule."""
        own: list[str] = []
        for number in numbers:
            if number == self.end:
                break
            own += self.told(number)
        if NOTHING in own or self.spelling == "smiles":
            return "".join(own)
        return of_selfies(own) if self.spelling == "selfies" else of_kekule(own)

    def told(self, number: int) -> list[str]:
        """What a number stands for, in tokens."""
        if number >= self.nothing:
            return [NOTHING] if number == self.nothing else []
        return [self.tokens[i] for i in self.parts[number]]


def _signs(numbers: Iterable[int]) -> str:
    return "".join(chr(FIRST + number) for number in numbers)


def _pairs(sample: Sequence[str], num_tokens: int, most: int) -> list[tuple[int, int]]:
    """The pairs of tokens, and of groups by number, that are joined, the first joined first."""
    from tokenizers import Tokenizer, models, trainers

    trained = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=num_tokens + most, show_progress=False,
        initial_alphabet=[chr(FIRST + i) for i in range(num_tokens)],
    )  # fmt: skip
    trained.train_from_iterator(sample, trainer)
    number = {chr(FIRST + i): i for i in range(num_tokens)}
    found: list[tuple[int, int]] = []
    for pair in json.loads(trained.to_str())["model"]["merges"]:
        a, b = pair.split(" ") if isinstance(pair, str) else pair
        number.setdefault(a + b, num_tokens + len(found))
        found.append((number[a], number[b]))
    return found
