"""An archive (.tar, .tar.gz, .zip) of files, read in place, member by member."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from morphogen.core.codec import Report, Text
from morphogen.sources._files import is_archive
from morphogen.sources._record import Record, Source, Survey, Wants
from morphogen.sources._tree import survey_tree, tree_records
from morphogen.sources._tree_texts import tree_texts


class Archive(Source):
    """A .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz or .zip of files."""

    kind = "archive"

    @classmethod
    def opens(cls, source: Any) -> float:
        is_path = isinstance(source, (str, Path)) and is_archive(source)
        return 0.9 if is_path and Path(source).is_file() else 0.0

    def survey(self) -> Survey:
        return survey_tree(Path(self.source), "archive")

    def records(self, wants: Wants, report: Report) -> Iterator[Record]:
        yield from tree_records(Path(self.source), wants, report)

    def texts(self, wants: Wants) -> Iterator[Text]:
        yield from tree_texts(Path(self.source), wants)
