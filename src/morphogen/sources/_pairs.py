"""Pairs the other way round: the items are cells or texts, and files are said of them.

captions.csv beside pictures    read for pictures, a picture with its caption; read for texts, a
                                caption with its picture
KEY.txt beside KEY.png          the same

What files are said of cells is found as it is for files: a column that names most of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from morphogen.core.codec import Problem, Report
from morphogen.core.errors import DataError
from morphogen.sources._columns import Columns, is_absent, is_file, item_column, suffix_of
from morphogen.sources._files import File, Listing, walk
from morphogen.sources._half import Half, several
from morphogen.sources._record import Record, Wants, same
from morphogen.sources._sidecar import Files, naming_column
from morphogen.sources._table import Table

BESIDE = "file"  # what a file that only shares its name with an item is said to be


@dataclass(frozen=True)
class Paired:
    """A table of cells that are items, each with the name of a file that belongs to it."""

    path: str
    table: Table
    naming: str  # the column that names the files
    columns: Columns

    @classmethod
    def of(cls, path: str, table: Table, files: Files, wants: Wants) -> Paired | None:
        """None for a table whose rows name none of these files, or hold no items."""
        if wants.cell is None or PurePosixPath(path).stem.lower() == "splits":
            return None
        naming = naming_column(table, PurePosixPath(path).parent, files)
        if naming is None:
            return None
        rest = {
            name: [each for cell in cells for each in several(cell)]
            for name, cells in table.samples.items()
            if name != naming
        }
        item = item_column(rest, frozenset(), wants)
        if item is None or any(is_file(cell, wants) for cell in rest[item]):
            return None
        return cls(path, table, naming, Columns.find(rest, item, table.classes))

    def records(self, files: Files, halves: Mapping[str, Half], report: Report) -> Iterator[Record]:
        """A record for each cell, several for a list. Cells without a file, and rows without a
        cell, are noted."""
        folder, own = PurePosixPath(self.path).parent, str(self.columns.item)
        for name, row in self.table.rows():
            name = f"{self.path}#{name.rpartition('#')[2]}"
            if is_absent(row.get(own)):
                reason, fix = f"an empty {own}", "write one, or delete the row"
                report.problems.append(Problem(name, reason, fix, fatal=True, field=own))
                continue
            cond = self.columns.conditions(row)
            file = str(row.get(self.naming) or "").strip()
            if found := files.find(file, folder):
                cond[self.naming] = halves[found]
            else:
                reason = f"the file does not exist: {file}" if file else "no file is named"
                fix = "correct the path, or it is learned as an item without one"
                report.problems.append(Problem(name, reason, fix, field=self.naming))
            split, tags = self.columns.split_in(row), self.columns.tags(row)
            tags.pop(self.naming.strip().lower(), None)
            for number, cell in enumerate(several(row[own]), 1):
                own_name = name if number == 1 else f"{name}.{number}"
                read = partial(same, cell)
                yield Record(own_name, "cell", read, "", dict(cond), split, dict(tags))


def paired_tables(
    tables: Iterable[tuple[str, Table]], others: Sequence[File], wants: Wants
) -> list[Paired]:
    """The tables of a tree that say which file belongs to which of the cells that are wanted."""
    if wants.cell is None or not others:
        return []
    files = Files([file.path for file in others])
    found = (Paired.of(path, table, files, wants) for path, table in tables)
    return [each for each in found if each is not None]


def paired_records(
    paired: Sequence[Paired], others: Sequence[File], root: Path, wants: Wants, report: Report
) -> Iterator[Record]:
    """The items of such tables; files that no row names are noted."""
    files = Files([file.path for file in others])
    halves = halves_of(others, root)
    named: set[str] = set()
    for each in paired:
        for record in each.records(files, halves, report):
            half = record.cond.get(each.naming)
            named.update([half.name] if half is not None else [])
            yield record
    suffixes = {suffix_of(name) for name in named}
    without = [f.path for f in others if f.path not in named and suffix_of(f.path) in suffixes]
    if without:
        listed = ", ".join(without[:3]) + (", ..." if len(without) > 3 else "")
        reason = f"{len(without):,} files have no {wants.what}: {listed}"
        report.problems.append(Problem(paired[0].path, reason, "add the rows, or nothing"))


def halves_of(files: Sequence[File], root: Path) -> dict[str, Half]:
    """Files by their paths."""
    packed = Packed(root, {file.path for file in files if not file.disk})
    return {
        file.path: Half(
            file.path,
            suffix_of(file.path),
            file.read if file.disk else partial(packed.read, file.path),
            file.disk,
            file.num_bytes,
        )
        for file in files
    }


class Packed:
    """Files of archives, all of which are read in one walk, when the first is asked for."""

    def __init__(self, root: Path, paths: set[str]) -> None:
        self.root, self.paths = root, paths
        self.held: dict[str, bytes | DataError] = {}

    def read(self, path: str) -> bytes:
        """The content of one. Raises `DataError` where it is damaged."""
        if not self.held:
            for file in walk(self.root, Listing()):
                if file.path in self.paths:
                    try:
                        self.held[file.path] = file.read()
                    except DataError as error:
                        self.held[file.path] = error
        found = self.held[path]
        if isinstance(found, DataError):
            raise found
        return found


def beside(items: Sequence[File], others: Sequence[File]) -> dict[str, File]:
    """Of items, by their paths, the one file that shares folder and name, but for the suffix."""
    by_stem: dict[str, list[File]] = {}
    for file in others:
        by_stem.setdefault(stem_of(file.path), []).append(file)
    found = {}
    for item in items:
        same = by_stem.get(stem_of(item.path), [])
        if len(same) == 1:
            found[item.path] = same[0]
    return found


def stem_of(path: str) -> str:
    """A path without its suffix."""
    suffix = suffix_of(path)
    return path[: -len(suffix)] if suffix else path
