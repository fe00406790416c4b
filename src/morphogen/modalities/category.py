"""Categories: one of a set of names, such as the class of a picture. A single token.

A name is never taken for an index: where the names are themselves numbers (10, 20, 30), `1` is no
class. Elsewhere an index from 0 may stand for a name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.errors import DataError, did_you_mean
from morphogen.core.spec import TensorSpec

LONGEST = 60  # characters of a name, for a column to be taken for one of categories
FEW, MOST_SHARE = 20, 0.1  # different names, at most: so many, or this part of the items
SENTENCE = 3  # words of a name, on average, from which it may be a sentence
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


class Category(Codec):
    """One name of a set: a class, a breed, a licence. Numbers are names, too."""

    def __init__(self) -> None:
        self.classes: list[str] = []

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        """Never: categories are what is said of items, or columns of a table."""
        return None

    @classmethod
    def recognises_cells(cls, values: Sequence[Any]) -> Recognition | None:
        """Sure where a few short names come again and again, and are no sentences: of three words
        and more, which come again in other sentences."""
        if not all(isinstance(value, (str, int)) for value in values):
            return None
        names = Counter(str(value) for value in values)
        if len(names) < 2 or len(names) > max(MOST_SHARE * len(values), FEW):
            return None
        if max(map(len, names)) > LONGEST or len(names) == len(values):
            return None
        numbers = all(NUMBER.fullmatch(name) for name in names)
        words = [name.split() for name in names]
        are_long = sum(map(len, words)) >= SENTENCE * len(names)
        sentences = are_long and len({*chain.from_iterable(words)}) <= len(names)
        return Recognition(0.5 if numbers or sentences else 0.8, f"{len(names):,} names")

    def read(self, source: Path | str, report: Report) -> Iterator[Item]:
        """Nothing: see `recognises`."""
        return iter(())

    def fit(self, items: Iterable[Item]) -> Category:
        """Learn the names. Raises `DataError` where there are none."""
        return self._use(natural_order({str(item.value) for item in items}))

    def _use(self, classes: Sequence[str]) -> Category:
        if not classes:
            raise DataError("there are no names to learn", expected="at least one")
        self.classes = list(classes)
        self.index = {name: number for number, name in enumerate(classes)}
        self.takes_index = not any(NUMBER.fullmatch(name) for name in classes)
        self.spec = TensorSpec.label(len(classes))
        self.numbers = torch.arange(len(classes))
        return self

    def encode(self, item: Item) -> Tensor:
        """A name, or its index where no name is a number -> its index, int64."""
        text = str(item.value)
        if text in self.index:
            return self.numbers[self.index[text]]
        if self.takes_index and text.isdecimal() and int(text) < len(self.classes):
            return self.numbers[int(text)]
        more = len(self.classes) - 12
        listed = ", ".join(self.classes[:12]) + (f" and {more} more" if more > 0 else "")
        raise DataError(
            f"there is no class {text!r}.{did_you_mean(text, self.classes)}",
            found=text,
            expected=f"one of {listed}"
            + (f", or 0 to {len(self.classes) - 1}" if self.takes_index else ""),
        )

    def decode(self, x: Tensor) -> str:
        """Index -> name."""
        return self.classes[int(x)]

    def state(self) -> dict[str, Any]:
        """The names, in order."""
        return {"classes": self.classes}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Category:
        """Inverse of `state`."""
        return cls()._use([str(name) for name in state["classes"]])


def natural_order(names: Iterable[str]) -> list[str]:
    """Numbers by value, then the rest by spelling."""

    def key(name: str) -> tuple[int, float, str]:
        return (0, float(name), name) if NUMBER.fullmatch(name) else (1, 0.0, name)

    return sorted(names, key=key)
