"""Which indexes of documents there are: what lies in a folder.

    indexes/handbook/index.json    a folder that `morphogen index` made: "handbook"
    indexes/papers.toml            one in a database, url = "postgresql://..": "papers"

An index is asked as a model is, in a process of its own. It is called by its address in the studio,
"/indexes/handbook", where models are named too: no model's name begins with a slash.
"""

from __future__ import annotations

from pathlib import Path

from morphogen.core.errors import did_you_mean
from morphogen.serve.catalogue import Entry
from morphogen.serve.errors import APIError

ABOUT = "index.json"
ROOT = "/indexes/"


class Indexes:
    """The indexes of a folder, as they are now."""

    root, what = ROOT, "index"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> dict[str, Entry]:
        """By the names of their folders, sorted."""
        found = {file.parent.name: file for file in self.folder.glob(f"*/{ABOUT}")}
        found |= {file.stem: file for file in self.folder.glob("*.toml")}
        return {name: _entry(name, file) for name, file in sorted(found.items())}

    def find(self, name: str) -> Entry:
        """The one of a name, or of its address. Raises `APIError`."""
        known = self.entries()
        name = name.removeprefix(self.root)
        if name in known:
            return known[name]
        there = ", ".join(known) or f"none in {self.folder}"
        raise APIError(
            404, f"there is no {self.what} {name!r}.{did_you_mean(name, known)} "
            f"There are: {there}", param=self.what, code=f"{self.what}_not_found",
        )  # fmt: skip


def name_of(entry: Entry) -> str:
    """What an index is called."""
    return entry.name.removeprefix(ROOT)


def _entry(name: str, file: Path) -> Entry:
    """Nothing in it depends on documents, which not everyone may read."""
    place = file.parent if file.name == ABOUT else file
    return Entry(f"{ROOT}{name}", place, "index", file.stat().st_mtime_ns, 0)
