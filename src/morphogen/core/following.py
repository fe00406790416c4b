"""What a codec may offer beyond its contract: items that follow a past, were begun before, are held
back from learning or have gaps; columns of values, and how much room an encoded one stands for.

A model of items with a past learns p(item | past), the past being a condition of the item's own
kind. What comes after the last that is known is then drawn like anything else: that is a forecast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from morphogen.core.codec import Codec, Item


@runtime_checkable
class ComesWith(Protocol):
    """Optional for a codec: conditions that its items always come with. They are learned though
    nobody names them, and a task takes them from the items that it is given."""

    comes_with: ClassVar[tuple[str, ...]]


@runtime_checkable
class CanDerive(Protocol):
    """Optional for a codec: conditions that are made of the items themselves, where a user names
    them and nothing of the name is said."""

    derives: ClassVar[tuple[str, ...]]

    def derived(self, name: str, value: Any) -> Any:
        """What an item's raw value is by that name, raw: for a fitted codec."""
        ...


@runtime_checkable
class CanGoOn(ComesWith, Protocol):
    """Optional for a codec: what comes after a source is an item, too."""

    def coming(self, source: Any) -> list[Item]:
        """What comes next: items of which nothing is known but their conditions."""
        ...

    def banded(self, item: Item, low: Tensor, middle: Tensor, high: Tensor, level: float) -> Any:
        """One raw value that shows what may come: the middle (*shape), and the ends of the band
        that holds a share `level` of it."""
        ...


@runtime_checkable
class BegunBefore(Protocol):
    """Optional for a codec: held-out items begin with what may have been learned, as the history of
    a user does, who goes on. What is new of them alone is judged."""

    def judged(self, x: Tensor) -> Tensor:
        """Which values of encoded held-out items are new, (B, *shape), bool."""
        ...


@runtime_checkable
class HoldsBack(Protocol):
    """Optional for a codec: a part of its training items that is not learned from, so that a family
    can settle on it how much of what it learned holds for items to come (`Family.finish`)."""

    def held_back(self, names: Sequence[str]) -> tuple[Tensor, Tensor] | None:
        """Of items called so, in the order that they were read in, those that are learned from and
        those held back, by their places; None where they are too few."""
        ...


@runtime_checkable
class HasGaps(Protocol):
    """Optional for a codec: of an item, some values may be missing."""

    gap: ClassVar[str]  # what a missing value is, in words

    def known(self, item: Item) -> Tensor | None:
        """Which values of an encoded item are known, (*shape), bool; None where all are."""
        ...

    def filled(self, items: Sequence[Item], draws: Tensor) -> list[Any]:
        """Raw values that hold what is known of items, and in its gaps what was drawn, S times for
        each: (N, S, *shape)."""
        ...


@dataclass(frozen=True)
class Gap:
    """Stands for a part that an item has, and of which nothing is known."""


GAP = Gap()


@runtime_checkable
class TakesParts(Protocol):
    """Optional for a codec: an item is parts by name, and any of them may be drawn."""

    @property
    def part_codecs(self) -> Mapping[str, Codec]:
        """By name, in order, who reads and writes each part."""
        ...

    def asked(self, parts: Mapping[str, str | Path | None]) -> Item:
        """An item of texts, files, and None for a part that is to be drawn, which becomes a `GAP`.
        Raises `DataError`."""
        ...

    def part_file(self, path: Path, number: int, name: str) -> Path | None:
        """The file of a part of the item `number` of those that `write_part` wrote at `path`; None
        where it has none of its own: texts, and what is shown on a page."""
        ...


@runtime_checkable
class HasRoom(Protocol):
    """Optional for a codec: its encoding is finer here than there, and it knows by how much."""

    def log_room(self, x: Any) -> Tensor:
        """The log of the room among raw values that encoded items (N, *) stand for: (N,), nats. A
        log probability less of it is a log density of raw values, up to a constant."""


@runtime_checkable
class ChecksAsked(Protocol):
    """Optional for a codec of a condition: not every raw value can be asked for as it is."""

    def check_asked(self, value: Any) -> None:
        """Raise `DataError` for one that is none, or of which a part would be left out."""
        ...


@runtime_checkable
class CanReread(Protocol):
    """Optional for a codec that tells nothing again: what another one encoded, it can have too."""

    def reread(self, x: Tensor, by: Codec) -> Tensor | None:
        """Items (N, *) as `by` encoded them -> as this codec does; None where the two read by
        different models."""
        ...


@runtime_checkable
class ComesThrough(Protocol):
    """Optional for a codec: what it gives is what a trained model makes of items."""

    model: Any  # None: it gives them otherwise


@runtime_checkable
class ShowsCopies(Protocol):
    """Optional for a codec that reads items once, for good: training sees some a little changed as
    well."""

    variation: Any  # how they are changed, which tells copies from others

    def num_copies(self, num: int) -> int:
        """Of each of `num` training items, how many changed ones there are beside it."""
        ...

    def changed(self, batches: Iterable[Any], number: int) -> Iterator[Tensor]:
        """Items as the inner codec encodes them, batch by batch -> the copy with that number of
        each, as this one does."""
        ...


class Values(NamedTuple):
    """A column of encoded items as they are in the data."""

    name: str
    numbers: Tensor  # (N,), float64; kinds by number; NaN for a missing value
    ordered: bool  # whether one is more than another


@runtime_checkable
class HasColumns(Protocol):
    """Optional for a codec: an item is values of different kinds side by side, each with a meaning
    of its own."""

    def values(self, x: Any) -> list[Values]:
        """What encoded items (N, *) have in each column."""
        ...


def conditions_of(codec: Codec, items: Sequence[Item]) -> dict[str, list[Any]]:
    """What items come with, by name, one value for each, None where it is not said: of the names
    that the codec reads, where any of them has it."""
    names = codec.comes_with if isinstance(codec, ComesWith) else ()
    known = [name for name in names if name in codec.condition_codecs]
    found = {name: [item.cond.get(name) for item in items] for name in known}
    return {name: each for name, each in found.items() if any(v is not None for v in each)}
