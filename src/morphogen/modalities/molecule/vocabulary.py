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

from morphogen.core.errors import DataError
from morphogen.modalities.molecule.tokens import NOTHING, Spelling, of_kekule, of_selfies, spelt

FIRST = 0x4E00  # the sign that stands for token 0 where tokens are joined
MOST_SAMPLED = 1 << 18  # molecules that groups are found in
MOST_HELD, TOGETHER = 1 << 18, 1 << 10  # molecules that are kept as numbers; joined at once
EACH, MOST_GROUPS, FEWEST_GROUPS = 200, 512, 16  # molecules for each group, unless told


class Seen:
    """The tokens of molecules, as they come."""

    def __init__(self, spelling: Spelling) -> None:
        self.spelling = spelling
        self.signs: dict[str, str] = {}  # of tokens, in the order in which they come
        self.sample: list[str] = []
        self.lengths: Counter[int] = Counter()  # tokens, with the end

    def add(self, tokens: Sequence[str]) -> None:
        """A molecule's, in the spelling."""
        for token in tokens:
            if token not in self.signs:
                self.signs[token] = chr(FIRST + len(self.signs))
        self.lengths[len(tokens) + 1] += 1
        if len(self.sample) < MOST_SAMPLED:
            self.sample.append("".join(map(self.signs.__getitem__, tokens)))

    def vocabulary(self, merges: int | None) -> tuple[Vocabulary, Counter[int]]:
        """The vocabulary with so many groups, or as many as the data bears; and how many molecules
        have so many of its tokens."""
        total = self.lengths.total()
        if merges is None:
            merges = min(total // EACH, MOST_GROUPS)
            merges = merges if merges >= FEWEST_GROUPS else 0
        joined = _pairs(self.sample, len(self.signs), merges) if merges else []
        found = Vocabulary(list(self.signs), self.spelling, joined)
        if not joined or len(self.sample) < total:
            return found, self.lengths
        lengths: Counter[int] = Counter()
        for start in range(0, total, TOGETHER):
            some = found.joiner.encode_batch(self.sample[start : start + TOGETHER])
            lengths.update(len(each.ids) + 1 for each in some)
        return found, lengths


class Written:
    """The tokens of molecules in a spelling: those of what was read are at hand, a space between
    them, from the reading until they are numbered."""

    def __init__(self, spelling: Spelling) -> None:
        self.spelling = spelling
        self._known: dict[str, str] = {}  # in the order of the reading

    def add(self, smiles: str, tokens: str) -> None:
        """What was read, as long as there is room."""
        if len(self._known) < MOST_HELD:
            self._known[smiles] = tokens

    def tokens(self, smiles: str) -> list[str]:
        """Those of a molecule. Raises `DataError` where it has none in the spelling."""
        known = self._known.get(smiles)
        return known.split(" ") if known else spelt(smiles, self.spelling)

    def take(self, smiles: str) -> list[str]:
        """The same, for the last time."""
        found = self.tokens(smiles)
        self._known.pop(smiles, None)
        return found

    def next(self, num: int) -> list[str]:
        """The first molecules that are at hand."""
        return list(itertools.islice(self._known, num))


class Vocabulary:
    """Tokens and groups of the training data, one that stands for nothing, and one for the end."""

    def __init__(
        self, tokens: Sequence[str], spelling: Spelling, merges: Iterable[Sequence[int]] = ()
    ) -> None:
        self.tokens, self.spelling = list(tokens), spelling
        self.merges = [(int(a), int(b)) for a, b in merges]
        self.signs = {token: chr(FIRST + i) for i, token in enumerate(self.tokens)}
        self.parts = [(i,) for i in range(len(self.tokens))]  # of a group, the tokens by number
        for a, b in self.merges:
            self.parts.append((*self.parts[a], *self.parts[b]))  # type: ignore[arg-type]
        self.nothing = len(self.parts)
        self.end = self.nothing + 1
        self._held: dict[str, Sequence[int]] = {}  # what is checked is encoded next
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
        found = [held.get(smiles) for smiles in molecules]
        missing = [s for s, own in zip(molecules, found, strict=True) if own is None]
        if missing:
            new = self._joined([self._plain(smiles) for smiles in missing])
            if len(held) > MOST_HELD:
                self._held = {}
            self._held.update(zip(missing, new, strict=True))
            self._read_ahead()
            rest = iter(new)
            return [next(rest) if own is None else own for own in found]
        return [own for own in found if own is not None]

    def _joined(self, plain: Sequence[str]) -> list[Sequence[int]]:
        """Molecules in signs of tokens as molecules in groups by number."""
        if not self.merges or not plain:
            return [array("i", [ord(sign) - FIRST for sign in own]) for own in plain]
        return [array("i", own.ids) for own in self.joiner.encode_batch(plain)]

    def _read_ahead(self) -> None:
        """Join the next of what is written: many at once cost less than one after the other."""
        plain: dict[str, str] = {}
        for smiles in self.written.next(TOGETHER):
            try:
                plain[smiles] = self._plain(smiles)
            except DataError:  # told when it is asked for
                continue
        self._held.update(zip(plain, self._joined(list(plain.values())), strict=True))

    def _plain(self, smiles: str) -> str:
        try:
            return "".join(map(self.signs.__getitem__, self.written.take(smiles)))
        except KeyError as error:
            raise DataError(
                f"no training molecule has {error.args[0]!r}",
                hint="add molecules with it to the training split, or leave this one out",
            ) from error

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
