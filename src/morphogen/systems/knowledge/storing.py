"""What keeps an index, and what a search may look at of it: two protocols that each store has.

    store.py     a folder: SQLite, vectors and postings in files
    postgres.py  a schema of PostgreSQL, by its URL
    shards.py    a folder of an object store, by its URL

All are held to the same tests. What a search looks at is made for whoever asks: it knows nothing
of what they may not read, so that nothing of that can take part in what they see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from morphogen.systems.knowledge.passage import Document, Passage
from morphogen.systems.knowledge.vectors import Floats, Ints

Fact = str | int | float | bool


@dataclass(frozen=True)
class Where:
    """Which documents are searched."""

    place: str | None = None  # a pattern of their places: "handbook/*.pdf", with * ? and [..]
    facts: Mapping[str, Fact] = field(default_factory=dict)  # what they say of themselves

    def __bool__(self) -> bool:
        return self.place is not None or bool(self.facts)


EVERYWHERE = Where()


@dataclass(frozen=True)
class Listed:
    """A document, as a list of them tells of it."""

    place: str
    title: str
    version: int
    num: int  # passages
    readers: Sequence[str]
    facts: Mapping[str, Any]


class Readable(Protocol):
    """The passages that somebody may read, by the numbers that a store has given them (rows)."""

    @property
    def rows(self) -> Ints:
        """Their numbers, in the order in which they came."""
        ...

    def __len__(self) -> int: ...

    def nearest(self, vector: Floats, num: int) -> dict[int, float]:
        """row -> cosine of the `num` nearest to a vector (D,), best first."""
        ...

    def holding(self, question: str, num: int) -> dict[int, float]:
        """row -> BM25 of the `num` best that hold a word of a question, best first."""
        ...

    def exact(self, question: str) -> frozenset[int]:
        """The rows that hold every rare word of a question, where these are mostly what is asked
        for (`words.holders`)."""
        ...

    def held(self, question: str, row: int) -> list[str]:
        """The terms of a question that a row holds."""
        ...

    def passages(self, rows: Sequence[int]) -> dict[int, Passage]:
        """The passages of rows, in the order of their numbers."""
        ...


class Storing(Protocol):
    """What keeps an index."""

    about: dict[str, Any]  # who embedded it, how it was cut

    @property
    def name(self) -> str:
        """Where it is, for a person."""
        ...

    def change(self) -> int:
        """Counts what was changed: the same number, the same index."""
        ...

    def digests(self) -> dict[str, str]:
        """place -> digest of the file that it was read from."""
        ...

    def put(self, document: Document, passages: Sequence[Passage], vectors: Floats) -> None:
        """Take in a document, in place of an older version of it."""
        ...

    def remove(self, places: Iterable[str]) -> int:
        """Forget documents for good. Returns how many there were."""
        ...

    def restrict(self, place: str, readers: Sequence[str]) -> None:
        """Say who may read a document."""
        ...

    def settle(self) -> None:
        """Leave nothing of what is gone: at the end of a reading."""
        ...

    def documents(self, groups: Iterable[str] | None = None) -> list[Listed]:
        """All of them, or those that a member of `groups` may read, by their places."""
        ...

    def counted(self, groups: Iterable[str]) -> tuple[int, int]:
        """How many documents a member of `groups` may read, and how many bytes they have."""
        ...

    def text(self, place: str, groups: Iterable[str] | None = None) -> str:
        """What offsets of a document's passages point into. Raises `BundleError` where there is
        none, or none that may be read: the same words for both."""
        ...

    def of_document(self, place: str) -> list[Passage]:
        """The passages of a document, in order."""
        ...

    def readable(self, groups: Iterable[str], where: Where = EVERYWHERE) -> Readable:
        """What a member of groups may read, of the documents that are searched."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...
