"""Files that the cells of a table name, wherever below its folder they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from morphogen.core.codec import SPLITS_FILE
from morphogen.sources import delimited, lines, parquet
from morphogen.sources._columns import Columns, suffix_of
from morphogen.sources._files import Listing, walk
from morphogen.sources._sidecar import Files

TABLES = delimited.SUFFIXES + lines.SUFFIXES + parquet.SUFFIXES


class NamedFiles:
    """What lies in a folder and below it, found by path or by name, with its suffix: a caption
    "apple" names no apple.png."""

    def __init__(self, folder: Path | None) -> None:
        found = [] if folder is None else [f.path for f in walk(folder, Listing()) if f.disk]
        self.folder, self._files = folder, Files(found)

    def why_not(self, cell: str) -> str:
        """Why a cell means no file."""
        return self._files.why_not(cell.strip())

    def find(self, cell: str) -> Path | None:
        """The file that a cell means; None for any other text."""
        known = suffix_of(cell.strip())
        found = self._files.find(cell.strip(), PurePosixPath()) if known else None
        return None if found is None or self.folder is None else self.folder / found


def tables_in(folder: Path) -> list[Path]:
    """The tables that lie directly in a folder."""
    return sorted(
        path for path in folder.iterdir()
        if path.is_file() and suffix_of(path.name) in TABLES
        and path.name != SPLITS_FILE and not path.name.startswith(".")
    )  # fmt: skip


def caption_column(samples: Mapping[str, Sequence[Any]]) -> str | None:
    """The column of captions or texts, by its name."""
    return Columns.find(samples, None).caption
