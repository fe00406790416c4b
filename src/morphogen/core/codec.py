"""How a raw item becomes a tensor, and back: the contract of the modality axis."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Generator, Tensor

from morphogen.core.encoded import moved, stacked, unstacked
from morphogen.core.errors import DataError, RecipeError, RefusedPair, did_you_mean
from morphogen.core.scatter import scatter
from morphogen.core.spec import Spec, TensorSpec
from morphogen.core.storage import write_text
from morphogen.core.visible import shortened

SPLITS_FILE = "splits.csv"  # in a folder of data: which split each item belongs to


@dataclass
class Item:
    """One raw item: a value in the modality's own form, where it came from, what is known of it."""

    value: Any
    name: str = ""  # where it came from: a path, or `file#row`
    cond: dict[str, Any] = field(default_factory=dict)  # raw conditions: a class name, a caption
    split: str | None = None  # "train" or "test" when the source says so
    tags: dict[str, str] = field(default_factory=dict)  # licence, consent, source, synthetic


@dataclass
class Problem:
    """One thing wrong with the data: nothing is dropped without one of these."""

    name: str  # the file, `file#row`, or folder
    reason: str
    fix: str
    fatal: bool = False  # the item cannot be used
    field: str = ""  # the column or property that is wrong, where one is


@dataclass
class Report:
    """What reading a source found: items read, items skipped and why, things worth knowing."""

    source: str
    num_read: int = 0
    problems: list[Problem] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    marks: dict[str, dict[str, str]] = field(default_factory=dict)  # tags inside files, by item
    num_leaks: int = 0  # groups of items that show the same in the training and the test split

    @property
    def skipped(self) -> list[Problem]:
        """The problems that cost an item."""
        return [problem for problem in self.problems if problem.fatal]

    def check_readable(self, found: Sequence[Any]) -> None:
        """Raise `DataError` where something of an input was skipped, or nothing found in it."""
        if found and not self.skipped:
            return
        problem = self.skipped[0] if self.skipped else None
        raise DataError(
            "the input cannot be read",
            found=problem.reason if problem else "nothing",
            where=problem.name if problem else self.source,
            hint=problem.fix if problem else None,
        )


@dataclass(frozen=True)
class Recognition:
    """A codec's word that it can read a source: how sure it is, in (0, 1], and why."""

    sure: float
    why: str  # "23 .png files"


@dataclass(frozen=True)
class Fingerprint:
    """What an item shows, short enough to keep for every item.

    `keys`, bit strings of one length: the first of the item as it is, the others of what it would
    be after a change that leaves what it shows (a crop, a mirror). `detail`: bytes to compare two
    items by, when their keys say that they may show the same.
    """

    keys: tuple[bytes, ...]
    detail: bytes


@runtime_checkable
class CanFingerprint(Protocol):
    """Optional for a codec: it recognises an item that was re-encoded, resized, cropped.

    Two items are worth comparing when a key of one lies within `key_radius` bits of the first key
    of the other; they show the same from a likeness of `same_from` on.
    """

    key_radius: ClassVar[int]
    same_from: ClassVar[float]

    def fingerprint(self, item: Item) -> Fingerprint | None:
        """The item's fingerprint, or None when it shows nothing (a blank picture)."""

    def likeness(self, first: Tensor, second: Tensor, key: Tensor) -> Tensor:
        """Details (N, D) and (N, D), uint8, pair by pair -> how alike they are, (N,), at most 1.
        `key` (N,) says which key of the first lies near the first key of the second."""


@runtime_checkable
class CanLookFirst(Protocol):
    """Optional for a codec with fingerprints: it rules out most pairs faster than keys do.
    `coarse_from` is the least inner product of coarse vectors of what is the same."""

    coarse_from: ClassVar[float]

    def coarse(self, detail: Tensor) -> Tensor:
        """Details (N, D), uint8 -> vectors of length 1, (N, C)."""

    def coarse_views(self, detail: Tensor) -> Tensor:
        """The same of G equal runs of keys, (N, G, C)."""

    def promising(self, first: Tensor, second: Tensor, coarse: Tensor, near: Any) -> Any:
        """Details (N, D) and (M, D), coarse vectors of the second (M, C), places in both and keys
        of pairs, three arrays (P,) -> those worth `likeness`, (P,)."""


@runtime_checkable
class CanFindDefects(Protocol):
    """Optional for a codec: it finds what reading puts up with in silence."""

    def defects(self, source: Any) -> Iterator[Problem]:
        """What is odd in the files of `source`, file by file."""


@dataclass(frozen=True)
class Text:
    """A text that comes with the data: a caption, a cell of a table, the name of a file."""

    name: str  # where it stands: the file, or `file#row`
    field: str  # the column; "file name" or "folder name" for a name
    text: str
    is_name: bool = False  # of a file or folder, without its suffix


@runtime_checkable
class CanListTexts(Protocol):
    """Optional for a codec: every text that comes with its items, for what hides in texts."""

    def texts(self, source: Any) -> Iterator[Text]:
        """Captions, cells and names of `source`; what cannot be read is left to `read` to tell."""


@runtime_checkable
class CanMark(Protocol):
    """Optional for a codec: files that it wrote can carry a few words about themselves."""

    def mark(self, path: Path, facts: Mapping[str, str], numbers: Sequence[int]) -> None:
        """Put `facts`, which hold for the items `numbers`, into the files that `write` made."""


@runtime_checkable
class CanDamage(Protocol):
    """Optional for a codec: small damage of its own field, which a good judge of items notices."""

    def damages(self) -> Mapping[str, Sequence[float]]:
        """Each in words that follow "real items", with a place for its strength ("saved as JPEG of
        quality {:.0f}"): the strength that does nothing, then some that do, the weakest first."""

    def damage(self, value: Any, words: str, strength: float, draw: Generator) -> Any:
        """A raw value, as it is after that."""


class Codec(ABC):
    """Raw items to tensors and back.

    Constructor keyword arguments are the configuration; what `fit` learns from the data goes into
    `state()`, with the configuration, as plain JSON. `encode` and `decode` are deterministic.
    Real-valued codecs encode to [-1, 1].

    A codec may offer several encodings of one item, its `views`: a row as parts, or as one token
    for each column. A family takes the first that it does not refuse.
    """

    spec: Any  # Spec, known after fit; that of the view in use
    suffix: ClassVar[str] = ".html"  # what `write` makes
    # Options that say what an item is, not how it is encoded: judges of a model keep to them.
    defining: ClassVar[tuple[str, ...]] = ()
    judged_as_fitted: ClassVar[bool] = False  # what `fit` learned says so too: a vocabulary
    family: str = "flow_matching"  # that such items are usually learned with, where none is named
    # Options of a backbone for as much data as was fitted to, where they are not named.
    network: Mapping[str, Any] = MappingProxyType({})
    unit: ClassVar[str] = "value"  # what bits are counted per: byte, pixel value, column
    raw: ClassVar[tuple[type, str] | None] = None  # class of items once they are read; their name
    holds: ClassVar[str] = ""  # what items are to metrics of one field: molecule; texts need none
    views: ClassVar[tuple[str, ...]] = ("",)  # encodings to choose from, the preferred first
    view: str = ""  # the one in use
    inner: Codec | None = None  # what a codec around another one wraps
    is_view = False  # whether it is but another way of encoding what the codec inside encodes

    @classmethod
    @abstractmethod
    def recognises(cls, source: Any) -> Recognition | None:
        """How surely this codec reads `source`, and why ("23 .png files"); None when it cannot."""

    @abstractmethod
    def read(self, source: Any, report: Report) -> Iterator[Item]:
        """Yield the items of `source`, noting in `report` whatever is skipped or odd."""

    @abstractmethod
    def fit(self, items: Iterable[Item]) -> Codec:
        """Learn sizes, levels and vocabularies from the training items; set `spec`."""

    @abstractmethod
    def encode(self, item: Item) -> Any:
        """Item -> tensor of `spec`; for a spec of parts, a dict of tensors."""

    @abstractmethod
    def decode(self, x: Any) -> Any:
        """Tensor, or tensors, of `spec` -> a raw value."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything `from_state` needs, as JSON."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Codec:
        """Inverse of `state` and `tensors`."""

    # -- what is said of items ---------------------------------------------------------------------

    @property
    def condition_codecs(self) -> dict[str, Codec]:
        """By name, the codec that reads each condition of the items: a class by `category`, a
        caption by `text`, a picture by `image`. Chosen and fitted with the data, after this codec,
        which knows nothing of them. A codec around another one has those of the inner."""
        if self.inner is not None:
            return self.inner.condition_codecs
        return self.__dict__.setdefault("_condition_codecs", {})

    @property
    def conditions(self) -> dict[str, TensorSpec]:
        """What each encoded condition looks like; empty when the data has none."""
        return {name: codec.spec for name, codec in self.condition_codecs.items()}

    @classmethod
    def recognises_cells(cls, values: Sequence[Any]) -> Recognition | None:
        """How sure this codec is that it reads `values`, raw cells of a column of conditions; the
        surest codec is taken. By default it knows items that were read already, by their class."""
        if cls.raw is None or not values or not all(isinstance(v, cls.raw[0]) for v in values):
            return None
        return Recognition(0.9, f"{len(values):,} {cls.raw[1]}")

    def is_one(self, value: Any) -> bool:
        """Whether `value` is one raw item. A list is several, unless a codec knows better."""
        return not isinstance(value, (list, tuple))

    def parse(self, text: str) -> Any:
        """The raw value that a text stands for, as given to `--cond`: by default, the text."""
        return text

    def spread(self, x: Any) -> str:
        """What encoded items are like, in a few words: their lengths, their range."""
        if not self.spec.is_ragged:
            return str(self.spec)
        units = self.num_units(x)
        return f"{int(units.min()):,} to {int(units.max()):,} {self.unit}s"

    def encode_condition(self, name: str, value: Any) -> Tensor:
        """One raw condition -> tensor of `conditions[name]`."""
        known = self.condition_codecs
        if name not in known:
            raise RefusedPair(
                f"the data has no condition {name!r}.{did_you_mean(name, known)}",
                found=name,
                expected=", ".join(known) or "nothing: nothing is said of these items",
            )
        encoded: Tensor = known[name].encode(Item(value))
        return encoded

    def class_names(self, name: str) -> list[str]:
        """What the values of a label condition are called; empty when it has no names."""
        return list(getattr(self.condition_codecs.get(name), "classes", ()))

    # -- around and within -------------------------------------------------------------------------

    @property
    def innermost(self) -> Codec:
        """The codec that raw items are read and written with: itself, unless it wraps another."""
        return self if self.inner is None else self.inner.innermost

    @property
    def viewed(self) -> Codec:
        """The codec whose views it and its likes are: that inside one that is but a view of it."""
        return self.inner.viewed if self.is_view and self.inner is not None else self

    def tensors(self) -> dict[str, Tensor]:
        """Weights that belong to the codec; none for most."""
        return {}

    def encode_many(self, items: Sequence[Item]) -> Any:
        """Items -> (B, *shape). Codecs that are faster in batches override it."""
        return stacked([self.encode(item) for item in items])

    def use_view(self, name: str) -> Codec:
        """Encode in the view called `name` from now on; returns the codec. `spec` follows.

        Raises `RecipeError` for a view that there is not.
        """
        if name not in self.views:
            raise RecipeError(
                f"{type(self).__name__} has no view {name!r}.{did_you_mean(name, self.views)}",
                found=name,
                expected=", ".join(map(repr, self.views)),
                hint="--set modality.view=NAME",
            )
        self.view = name
        return self

    def encode_sequences(self, items: Sequence[Item]) -> list[Tensor]:
        """Items that are to go on: the tokens (n,) of each, without the end that encoding gives.

        Raises `RecipeError` where items are no sequences that end.
        """
        spec: Spec = self.spec
        if not isinstance(spec, TensorSpec) or spec.end is None:
            raise RecipeError(
                "the items have no beginning to go on from",
                found=str(spec),
                expected="sequences of tokens with an end",
            )
        x = self.encode_many(items)
        known = (x != spec.end) & spec.mask(x)
        return [row[there] for row, there in zip(x, known, strict=True)]

    def num_units(self, x: Any) -> Tensor:
        """How many units (bytes, pixel values) the encoded items hold: (B,). By default, their real
        values; a tokenizer's tokens are several bytes each."""
        spec: Spec = self.spec
        return spec.num_real(x)

    def check_fits(self, item: Item, report: Report) -> None:
        """Raise `DataError` when an item cannot be encoded as the codec was fitted (a category that
        no training item has); count in the report's facts what encoding changes of it."""
        return

    def odd(self, item: Item) -> tuple[str, str] | None:
        """What is odd about an item that can be read (a blank picture), and what to do; or None."""
        return None

    def read_inputs(self, source: Path | str) -> list[Item]:
        """The items of a file that a user names as a task's input; any problem is raised."""
        report = Report(str(source))
        items = list(self.read(source, report))
        report.check_readable(items)
        return items

    def decode_many(self, x: Any) -> list[Any]:
        """(B, *shape) -> raw values."""
        return [self.decode(row) for row in unstacked(moved(x, "cpu"))]

    # -- for people ------------------------------------------------------------------------------

    def html(self, values: Sequence[Any], columns: int | None = None) -> str:
        """Raw values as a piece of a page that needs nothing but itself: by default, as text."""
        cells = [f"<pre>{html.escape(self.brief(value, 2000))}</pre>" for value in values]
        style = f"display:grid;gap:.5rem;grid-template-columns:repeat({columns or 1},minmax(0,1fr))"
        return f'<div style="{style}">{"".join(cells)}</div>'

    def brief(self, value: Any, most: int = 40) -> str:
        """A raw value in a few words, for tables and maps."""
        return shortened(str(value), most)

    def write(self, values: Sequence[Any], path: Path, columns: int | None = None) -> Path:
        """Write raw values where a person can look at them; return the path written."""
        body = self.html(values, columns)
        return write_text(Path(path), f'<!doctype html>\n<meta charset="utf-8">\n{body}\n')

    def write_part(
        self, values: Sequence[Any], path: Path, first: int, total: int, columns: int | None = None
    ) -> Path:
        """`write` for those from number `first` on of `total` values that come part by part: by
        default, where they are not all, in a file of their own that is called by that number."""
        if len(values) < total:
            path = path.with_name(f"{path.stem}-{first:0{len(str(total))}d}{path.suffix}")
        return self.write(values, path, columns)

    def write_map(self, values: Sequence[Any], positions: Tensor, path: Path) -> Path:
        """Draw `values` at 2-D `positions` (N, 2), for maps of the data: by default, a scatter in
        which every point tells its value."""
        drawn = scatter([self.brief(value) for value in values], positions)
        return write_text(Path(path).with_suffix(".svg"), drawn)
