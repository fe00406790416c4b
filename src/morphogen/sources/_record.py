"""What a source gives, and what a codec wants of it: the words that both sides share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from morphogen.core.codec import Problem, Report, Text
from morphogen.core.errors import DataError

Kind = Literal["file", "cell", "row", "array"]
Shape = tuple[int, ...]


def same(value: Any) -> Any:
    """What is there already, for who reads a value when it is asked for: in another process too."""
    return value


@dataclass(slots=True)
class Record:
    """One item where it lies: what is known of it, and how to get at it.

    `value()` reads it when it is asked for, so that it can be asked for in another thread: the
    bytes of a file, a cell of a table (text, bytes, a number), a whole row as a dict, or an array.
    It raises `DataError` when the item cannot be read: what is wrong, and as the hint what to do.
    """

    name: str  # a path below the source, or `file#row 3`
    kind: Kind
    value: Callable[[], Any]
    suffix: str = ""  # of a file, or of the file that a cell was made from: ".png"
    cond: dict[str, Any] = field(default_factory=dict)  # raw conditions: a class name, a caption
    split: str | None = None  # "train", "test" or "validation" when the source says so
    tags: dict[str, str] = field(default_factory=dict)  # licence, consent, other cells of the row
    path: str | Path | None = None  # a file on disk, for what is too long to be read whole
    num_bytes: int = 0  # where it is known without reading
    stack: Any = None  # the array (N, ...) that an item is a row of


@dataclass(frozen=True)
class Labelled:
    """Values in memory with a label for each, all of one split: a part of a source."""

    values: Any
    labels: Any = None
    split: str | None = None


@dataclass(frozen=True)
class Wants:
    """What a codec opens. Each field that is left out is a kind of item that it does not."""

    what: str  # one item in plain words, for messages: "picture"
    suffixes: frozenset[str] = frozenset()  # of files, in lower case: {".png", ".jpg"}
    sniff: Callable[[bytes], bool] | None = None  # by the first bytes, for files of other suffixes
    cell: Callable[[Any], bool] | None = None  # a cell of a table, or a value in memory
    # Column -> some of its cells; which column holds the items. None: the first that `cell` takes.
    column: Callable[[Mapping[str, Sequence[Any]]], str | None] | None = None
    rows: bool = False  # whole rows of tables
    arrays: Callable[[Shape, np.dtype[Any]], bool] | None = None  # a stack of items, by its shape
    shapes: str = ""  # the same in words: "(N, H, W) or (N, H, W, C)"
    streams: bool = False  # files of any length: `Record.path` is opened, not `value()` called
    convert: Mapping[str, str] = field(default_factory=dict)  # unread suffix -> what to do with it


@dataclass
class Survey:
    """What there is in a source, without reading it: what a codec recognises it by."""

    kind: str  # "folder", "archive", "file", "table", "arrays", "dataset" or "memory"
    suffixes: Counter[str] = field(default_factory=Counter)  # of files that are items of their own
    starts: dict[str, list[bytes]] = field(default_factory=dict)  # suffix -> first bytes of some
    columns: dict[str, list[Any]] = field(default_factory=dict)  # of a table: some of its cells
    media: frozenset[str] = frozenset()  # columns that hold files
    arrays: dict[str, tuple[Shape, np.dtype[Any]]] = field(default_factory=dict)
    values: list[Any] = field(default_factory=list)  # in memory: the first few
    num: int | None = None  # items, where they are counted
    damaged: DataError | None = None  # why it cannot be seen whole
    foreign: dict[str, str] = field(default_factory=dict)  # what nobody reads -> how to convert it
    name: str = ""  # what it is in words: "a .csv table"


class Source(ABC):
    """A place where items lie. One file of `sources/` holds one kind of place.

    `opens` says how surely a source is of this kind; the surest kind reads it.
    """

    kind: ClassVar[str] = ""

    def __init__(self, source: Any) -> None:
        self.source = source

    @classmethod
    @abstractmethod
    def opens(cls, source: Any) -> float:
        """How surely `source` is of this kind, from 0 (not at all) to 1."""

    @abstractmethod
    def survey(self) -> Survey:
        """What there is, seen from names and headers alone."""

    @abstractmethod
    def records(self, wants: Wants, report: Report) -> Iterator[Record]:
        """Every item that `wants` opens; what else there is, or is odd, goes into `report`."""

    def texts(self, wants: Wants) -> Iterator[Text]:
        """Captions, cells and names."""
        yield from ()

    def defects(self, wants: Wants) -> Iterator[Problem]:
        """What reading puts up with in silence."""
        yield from ()

    def changed(self) -> float:
        """When the newest of it was last changed, in seconds; 0 where nobody knows."""
        return 0.0
