"""A folder of files: classes and splits are its folders, tables beside the items say more.

cat/001.png  dog/001.png             train/cat/001.png  test/cat/001.png
cat/train/001.png                    images/001.png  masks/001.png  captions.csv
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from morphogen.core.codec import Problem, Report, Text
from morphogen.sources._record import Record, Source, Survey, Wants
from morphogen.sources._tree import survey_tree, tree_records
from morphogen.sources._tree_texts import tree_defects, tree_texts


class Folder(Source):
    """A folder of files, and of archives of files."""

    kind = "folder"

    @classmethod
    def opens(cls, source: Any) -> float:
        return 0.5 if isinstance(source, (str, Path)) and Path(source).is_dir() else 0.0

    def survey(self) -> Survey:
        return survey_tree(Path(self.source), "folder")

    def records(self, wants: Wants, report: Report) -> Iterator[Record]:
        yield from tree_records(Path(self.source), wants, report)

    def texts(self, wants: Wants) -> Iterator[Text]:
        yield from tree_texts(Path(self.source), wants)

    def defects(self, wants: Wants) -> Iterator[Problem]:
        yield from tree_defects(Path(self.source), wants)
