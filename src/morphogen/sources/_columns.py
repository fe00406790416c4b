"""Which column of a table says what: the item, its label, its caption, its split; the rest."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from morphogen.sources._layout import split_of
from morphogen.sources._record import Wants

PATH_COLUMNS = (
    "file", "path", "image", "img", "filename", "file_name", "filepath", "file_path", "image_path",
    "img_path", "image_file", "image_name", "audio", "audio_path", "video", "video_path", "id",
    "image_id", "img_id", "name", "key",
)  # fmt: skip
LABEL_COLUMNS = ("label", "labels", "class", "category", "target", "class_name", "label_name")
CAPTION_COLUMNS = ("caption", "text", "description", "title", "prompt", "captions")
SPLIT_COLUMNS = ("split", "subset", "fold", "partition")
TAGS = ("licence", "license", "consent", "source", "synthetic")  # read from every kind of table
# Whose item it is, which says what must not be divided, and nothing of what the item is.
WHOSE = (
    "patient", "subject", "person", "participant", "user", "author", "speaker", "writer", "owner",
    "customer", "session", "scene", "group", "entity", "identity",
)  # fmt: skip
SPELT = {"license": "licence"}
WHOLE = re.compile(r"-?\d+\.0+")


@dataclass
class Columns:
    """Which column of a table says what."""

    item: str | None = None
    label: str | None = None
    caption: str | None = None
    split: str | None = None
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)  # column -> its names
    whole: bool = False  # labels are whole numbers that were written as 1.0

    @classmethod
    def find(
        cls,
        samples: Mapping[str, Sequence[Any]],
        item: str | None,
        classes: Mapping[str, Sequence[str]] | None = None,
    ) -> Columns:
        """Match names without regard to case; columns with class names are labels first."""
        lower = {name.strip().lower(): name for name in samples if name and name != item}

        def first(known: Sequence[str]) -> str | None:
            return next((lower[name] for name in known if name in lower), None)

        named = [name for name in classes or {} if name in samples]
        label = named[0] if named else first(LABEL_COLUMNS)
        seen = [cell for cell in samples.get(label or "", ()) if not is_absent(cell)]
        whole = bool(seen) and all(WHOLE.fullmatch(str(cell).strip()) for cell in seen)
        split = first(SPLIT_COLUMNS)
        if split and not any(split_of(str(cell)) for cell in samples[split]):
            split = None  # a number of a fold, say, which is a tag like others
        return cls(item, label, first(CAPTION_COLUMNS), split, classes or {}, whole)

    def conditions(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The raw conditions in a row; empty cells are absent ones."""
        said = ((name, self.said(column, row.get(column))) for name, column in self.saying())
        return {name: value for name, value in said if value is not None}

    def saying(self) -> Iterator[tuple[str, str]]:
        """What is said of items, and the column that says it."""
        for name, column in (("label", self.label), ("caption", self.caption)):
            if column:
                yield name, column

    def said(self, column: str, cell: Any) -> Any:
        """What a cell says: a class by its name; None where it is empty."""
        if is_absent(cell):
            return None
        names = self.classes.get(column)
        cell = plain(cell)
        if names and isinstance(cell, int) and 0 <= cell < len(names):
            return names[cell]
        if self.whole and column == self.label and WHOLE.fullmatch(str(cell).strip()):
            return str(cell).strip().partition(".")[0]
        return cell

    def tags(self, row: Mapping[str, Any]) -> dict[str, str]:
        """What the other columns say: licence, consent, source, synthetic, whose item it is."""
        found = ((tag, tag_of(row[column])) for column, tag in self.tagged(row))
        return {tag: said for tag, said in found if said is not None}

    def tagged(self, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Of the columns called so, those that are tags, and what these are called."""
        own = {self.item, self.label, self.caption, self.split, None}
        for column in names:
            if column not in own:
                yield column, SPELT.get(key := column.strip().lower(), key)

    def split_in(self, row: Mapping[str, Any]) -> str | None:
        """The split that a row names."""
        return split_of(str(row.get(self.split) or "").strip()) if self.split else None

    def rest(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row as an item of its own: without its split and the tags that no model learns."""
        beside = {"licence", "license", "consent", "synthetic"}
        return {
            column: value
            for column, value in row.items()
            if column and column != self.split and column.strip().lower() not in beside
        }


def tag_of(cell: Any) -> str | None:
    """What a cell says as a tag."""
    said = isinstance(cell, (str, int, float)) and not is_absent(cell)
    return str(cell).strip() if said else None


def is_absent(cell: Any) -> bool:
    """True for None, an empty text and NaN."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return True
    return isinstance(cell, float) and math.isnan(cell)


def plain(value: Any) -> Any:
    """A cell as Python has it: NumPy's scalars unpacked, 3.0 as 3."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    return int(value) if isinstance(value, float) and value.is_integer() else value


def item_column(
    samples: Mapping[str, Sequence[Any]], media: frozenset[str], wants: Wants
) -> str | None:
    """The column that holds the items: files that are wanted, else cells, else names of files."""
    for column in samples:
        if column in media and _most(samples[column], lambda cell: is_file(cell, wants)):
            return column
    for column in _by_name(samples, PATH_COLUMNS):
        if _most(samples[column], lambda cell: is_file(cell, wants)):
            return column
    if wants.cell is not None:
        if wants.column is not None:
            return wants.column(samples)
        takes = wants.cell
        return next((c for c in samples if _most(samples[c], takes)), None)
    return None


def is_file(cell: Any, wants: Wants) -> bool:
    """True for the path or the bytes of a file that is wanted."""
    if isinstance(cell, Mapping):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        return bool(wants.suffixes) and (wants.sniff is None or wants.sniff(cell[:64]))
    return isinstance(cell, str) and suffix_of(cell) in wants.suffixes


def suffix_of(path: str) -> str:
    """The suffix of a path, in lower case."""
    name = path[max(path.rfind("/"), path.rfind("\\")) + 1 :]
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def _by_name(samples: Mapping[str, Sequence[Any]], known: Sequence[str]) -> list[str]:
    """Columns, those with a known name first, in the order of those names."""
    lower = {name.strip().lower(): name for name in samples if name}
    first = [lower[name] for name in known if name in lower]
    return first + [name for name in samples if name not in first]


def _most(cells: Sequence[Any], test: Callable[[Any], bool]) -> bool:
    """True when at least half of the cells that are not empty pass."""
    filled = [cell for cell in cells if not is_absent(cell)]
    return bool(filled) and 2 * sum(map(test, filled)) >= len(filled)
