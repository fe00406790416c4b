"""What lies beside items and says something of them: tables, and files of the same name.

captions.csv, metadata.jsonl, labels.csv, any table of which a column names the files
dataset.json with {"labels": [["00000/img1.png", 3], ...]}, as StyleGAN has it
KEY.txt, KEY.caption, KEY.cls and KEY.json beside KEY.png, as WebDataset has it
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from morphogen.core.codec import Problem, Report
from morphogen.core.errors import DataError
from morphogen.sources._columns import PATH_COLUMNS, TAGS, WHOSE, Columns, is_absent, plain
from morphogen.sources._record import Wants
from morphogen.sources._table import Row, Table, no_items

NAMED = ("captions", "metadata", "labels", "tags")  # captions.csv, metadata.jsonl, ...
STYLEGAN = "dataset.json"
ATTACHED = (".txt", ".caption", ".cls", ".json")
MAX_ATTACHED = 1 << 16  # bytes of a caption
WORD = re.compile(r"[\W_]+")
NUMBERS = re.compile(rb"[\d\s.,eE+-]*")  # boxes beside pictures are no captions


@dataclass
class Sidecar:
    """A table in a tree of files: what it says of each file."""

    name: str
    columns: Columns
    by_path: dict[str, list[Row]] = field(default_factory=dict)  # several, with other captions

    @classmethod
    def match(
        cls, table: Table, path: str, files: Files, wants: Wants, report: Report
    ) -> Sidecar | None:
        """Match rows to files: by path from the table's folder, else by a file name, with or
        without suffix, that only one file has, there or anywhere. Rows without a file and files
        without a row are noted. None for a table that is about something else."""
        folder = PurePosixPath(path).parent
        if "submission" in PurePosixPath(path).stem.lower():  # what Kaggle wants filled in
            return None
        item = naming_column(table, folder, files)
        is_named = PurePosixPath(path).stem.lower() in NAMED
        if item is None and is_named:
            lower = {name.strip().lower(): name for name in table.columns}
            item = next((lower[name] for name in PATH_COLUMNS if name in lower), None)
            if item is None:
                raise no_items(table, wants)
        if item is None:
            return None
        sidecar = cls(path, Columns.find(table.samples, item, table.classes))
        sidecar._guess_label(table, report)
        several = 0
        for name, row in table.rows():
            file = str(row.get(item) or "").strip()
            if found := files.find(file, folder):
                before = sidecar.by_path.setdefault(found, [])
                label, caption = sidecar.columns.label, sidecar.columns.caption
                several += label is not None and _differ(before, row, label)
                if caption is None or not _differ(before, row, caption):
                    before.clear()  # the last counts
                before.append(row)
                continue
            reason = files.why_not(file)
            name = f"{path}#{name.rpartition('#')[2]}"
            report.problems.append(
                Problem(name, reason, "correct the path or delete the row", True)
            )
        if several:
            reason = (
                f"{several:,} rows give a file another label than a row before: the last counts"
            )
            report.problems.append(Problem(path, reason, "keep one row for each file"))
        sidecar._note_files_without(files, folder, wants, report)
        return sidecar

    def conditions(self, row: Row) -> dict[str, Any]:
        """Label and caption in a row."""
        return self.columns.conditions(row)

    def _guess_label(self, table: Table, report: Report) -> None:
        """The one column that is left is a label, if the same values come again and again."""
        columns = self.columns
        if columns.label or columns.caption:
            return
        left = [c for c in table.columns if c not in (columns.item, columns.split)]
        if any(word in TAGS + WHOSE for c in left for word in WORD.split(c.strip().lower())):
            return
        cells = [str(cell) for cell in table.samples.get(left[0], ())] if len(left) == 1 else []
        if cells and 2 * len(set(cells)) <= len(cells):
            columns.label = left[0]
            report.facts["labels"] = f"the column {left[0]!r} of {self.name}"

    def _note_files_without(
        self, files: Files, folder: PurePosixPath, wants: Wants, report: Report
    ) -> None:
        own = "" if folder == PurePosixPath(".") else f"{folder}/"
        without = [f for f in files.paths if f not in self.by_path and f.startswith(own)]
        if without:
            listed = ", ".join(without[:3]) + (", ..." if len(without) > 3 else "")
            reason = f"{len(without):,} {wants.what}s have no row in it: {listed}"
            report.problems.append(Problem(self.name, reason, "add the rows, or nothing"))


class Files:
    """The items of a tree, found by path, by name, or by name without suffix."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self._known = set(paths)
        self._by_name: dict[str, str] = {}
        self._more: dict[str, list[str]] = {}  # of names that several files have, the others
        for path in paths:
            name = _name_of(path)
            for key in {name, name.rpartition(".")[0] or name}:
                if self._by_name.setdefault(key, path) != path:
                    self._more.setdefault(key, []).append(path)

    def find(self, file: str, folder: PurePosixPath) -> str | None:
        """The path that a cell of a table in `folder` means, or None."""
        if not file:
            return None
        relative = os.path.normpath(f"{folder}/{_plain(file)}")
        if relative in self._known:
            return relative
        called = self._called(file)
        if len(called) > 1 and folder != PurePosixPath("."):
            called = [path for path in called if path.startswith(f"{folder}/")]
        return called[0] if len(called) == 1 else None

    def why_not(self, file: str) -> str:
        """Why a cell means no path."""
        if not file:
            return "no file is named"
        if called := self._called(file):
            return f"{len(called):,} files are called {_name_of(_plain(file))}: name its folder too"
        return f"the file does not exist: {file}"

    def _called(self, file: str) -> list[str]:
        """The paths of the files that have the name of this one."""
        name = _name_of(_plain(file))
        return [self._by_name[name], *self._more.get(name, ())] if name in self._by_name else []


def _plain(file: str) -> str:
    """A path as Windows may write it, with slashes."""
    return file.replace("\\", "/")


def _name_of(path: str) -> str:
    return path[path.rfind("/") + 1 :]


def _differ(before: Sequence[Row], row: Row, column: str) -> bool:
    return bool(before) and all(each.get(column) != row.get(column) for each in before)


def naming_column(table: Table, folder: PurePosixPath, files: Files) -> str | None:
    """The column whose cells are names of most files; known names of columns first."""
    best, most = None, 0
    lower = {name.strip().lower(): name for name in table.columns}
    first = [lower[name] for name in PATH_COLUMNS if name in lower]
    for column in [*first, *(name for name in table.columns if name not in first)]:
        cells = [str(c).strip() for c in table.samples[column] if not is_absent(c)]
        found = sum(files.find(cell, folder) is not None for cell in cells)
        if found > most and 2 * found >= len(cells):
            best, most = column, found
    return best


# -- other forms ----------------------------------------------------------------------------------


def stylegan_table(data: bytes, name: str) -> Table | None:
    """The labels in a `dataset.json`; None when it has none of that form."""
    try:
        labels = json.loads(data)["labels"]
        pairs = [(str(file), label) for file, label in labels or ()]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None

    def rows() -> Iterator[tuple[str, Row]]:
        for number, (file, label) in enumerate(pairs, 1):
            yield f"{name}#row {number}", {"file": file, "label": _one(label)}

    return Table(name, ["file", "label"], rows)


def _one(label: Any) -> Any:
    """A one-hot list as its place."""
    if isinstance(label, list) and sum(map(bool, label)) == 1:
        return [bool(each) for each in label].index(True)
    return label if not isinstance(label, list) else json.dumps(label)


def attached_conditions(parts: Mapping[str, Callable[[], bytes]]) -> dict[str, Any]:
    """Suffix -> bytes of the files that share an item's name: its label and its caption."""
    cond: dict[str, Any] = {}
    if ".json" in parts:
        try:
            found = json.loads(parts[".json"]())
        except (ValueError, RecursionError, DataError):
            found = None
        if isinstance(found, dict):
            row = {str(key): value for key, value in found.items()}
            columns = Columns.find({key: [value] for key, value in row.items()}, None)
            for key, value in columns.conditions(row).items():
                if isinstance(value, (str, int, float)):
                    cond[key] = value
    if ".cls" in parts and (text := _text(parts[".cls"])):
        cond["label"] = plain(int(text)) if text.isdecimal() else text
    for suffix in (".txt", ".caption"):
        if suffix in parts and (text := _text(parts[suffix])):
            cond["caption"] = text
    return cond


def is_caption(data: bytes) -> bool:
    """False for what is numbers alone, such as the boxes that detectors learn."""
    return not NUMBERS.fullmatch(data)


def _text(read: Callable[[], bytes]) -> str:
    try:
        return read()[:MAX_ATTACHED].decode("utf-8-sig", "replace").strip()
    except DataError:
        return ""
