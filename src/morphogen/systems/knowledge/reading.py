"""Files into an index: only what changed is read and embedded again, what is gone is forgotten.

A file is known by its place and by the digest of its bytes. Each is one transaction, so that a
reading that was killed goes on where it was, with nothing twice; a file that cannot be read is
named with the reason, and what the index had of it stays. Files with the same text are read once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from morphogen.core.errors import DataError, MorphogenError
from morphogen.core.visible import visible
from morphogen.data import progress
from morphogen.data.personal import Finder
from morphogen.sources import read_regular
from morphogen.systems.knowledge.copies import Copies
from morphogen.systems.knowledge.cutting import passages
from morphogen.systems.knowledge.formats import blocks_of, formats, suffix_of
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.passage import EVERYONE, Document

MOST_BYTES = 1 << 28  # of one file


@dataclass
class Read:
    """What a reading did."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    same: int = 0
    removed: list[str] = field(default_factory=list)
    copies: dict[str, str] = field(default_factory=dict)  # place -> place of the same file
    near: dict[str, str] = field(default_factory=dict)  # place -> place of nearly the same text
    problems: dict[str, str] = field(default_factory=dict)  # place -> why it was not read
    left_out: dict[str, int] = field(default_factory=dict)  # suffix -> files of no known kind

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dict(vars(self))

    def text(self) -> str:
        """For a person."""
        counts = {
            "added": self.added, "changed": self.changed, "removed": self.removed,
        }  # fmt: skip
        said = [f"{len(places):,} {what}" for what, places in counts.items() if places]
        said += [f"{self.same:,} as they were"] * bool(self.same)
        lines = [f"documents: {', '.join(said) or 'none'}"]
        lines += [f"not read: {place}: {why}" for place, why in sorted(self.problems.items())]
        for how, found in {"a copy": self.copies, "nearly a copy": self.near}.items():
            lines += [f"{how} of {first}: {place}" for place, first in sorted(found.items())]
        if self.left_out:
            kinds = ", ".join(f"{n:,} {suffix}" for suffix, n in sorted(self.left_out.items()))
            lines.append(f"of kinds that are not read: {kinds}")
        return "\n".join(visible(line) for line in lines)


def read_into(
    index: Index,
    source: Path | str,
    *,
    readers: Sequence[str] = (EVERYONE,),
    distinct: bool = False,
) -> Read:
    """Bring an index up to what a folder, or a file, holds. `readers` are the groups that may read
    what is added; of documents that are nearly the same, `distinct` keeps one. Raises `DataError`
    where there is nothing to read."""
    root = Path(source)
    found, left_out = _files(root)
    if not found:
        raise DataError(
            "there are no documents here", where=root, found=dict(left_out) or "nothing",
            expected=f"files such as {', '.join(sorted(formats()))}",
        )  # fmt: skip
    told = Read(left_out=left_out)
    known = {
        place: digest
        for place, digest in index.store.digests().items()
        if place.partition("/")[0] == root.resolve().name
    }
    digests = {}
    for place, file in progress.told(found.items(), "looking for what changed", len(found)):
        try:
            digests[place] = hashlib.sha256(read_regular(file, MOST_BYTES)).hexdigest()
        except MorphogenError as error:
            told.problems[place] = error.message
    told.copies = _copies(digests, known)
    left = {
        place: found[place] for place in digests
        if place not in told.copies and known.get(place) != digests[place]
    }  # fmt: skip
    told.same = len(digests) - len(told.copies) - len(left)
    documents = _read(left, readers, Finder() if index.store.about.get("masked") else None, told)
    if distinct:
        held = ((place, index.store.text(place)) for place in known if place in digests)
        documents = Copies(held).kept(documents, told.near)
    for document in documents:
        index.add(document, passages(document, index.store.about["most"]))
        (told.changed if document.place in known else told.added).append(document.place)
    told.removed = sorted(known.keys() - (found.keys() - told.copies.keys() - told.near.keys()))
    if told.removed:
        index.store.remove(told.removed)  # which settles all
    else:
        index.store.settle()
    return told


def _read(
    files: Mapping[str, Path], readers: Sequence[str], finder: Finder | None, told: Read
) -> Iterator[Document]:
    """Files as documents; `told` learns why one cannot be read."""
    for place, file in progress.told(files.items(), "reading documents", len(files)):
        try:
            document = document_of(place, read_regular(file, MOST_BYTES), readers)
        except MorphogenError as error:
            told.problems[place] = error.message
            continue
        yield document if finder is None else masked(document, finder)


def masked(document: Document, finder: Finder) -> Document:
    """A document with `[e-mail address]` in place of an address, and so on: in its text, its
    headings, and what it says of itself."""
    cover = finder.redact
    blocks = tuple(
        replace(each, text=cover(each.text), heading=tuple(map(cover, each.heading)))
        for each in document.blocks
    )
    facts = {
        name: cover(value) if isinstance(value, str) else value
        for name, value in document.facts.items()
    }
    return replace(document, title=cover(document.title), blocks=blocks, facts=facts)


def _copies(digests: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """Files that are as another one is, byte by byte -> that one: the one that the index has, else
    the first."""
    held = {digest: place for place, digest in digests.items() if known.get(place) == digest}
    copies = {}
    for place, digest in digests.items():
        if (first := held.setdefault(digest, place)) != place:
            copies[place] = first
    return copies


def document_of(place: str, data: bytes, readers: Sequence[str] = (EVERYONE,)) -> Document:
    """A file as a document. Raises `DataError` where its format is damaged, locked or empty."""
    title, blocks, facts = blocks_of(place, data)
    if not any(block.text.strip() for block in blocks):
        raise DataError(
            "there is no text in it", where=place,
            hint="a scan has pictures of text: read it with an OCR program first",
        )  # fmt: skip
    digest = hashlib.sha256(data).hexdigest()
    return Document(place, title or Path(place).stem, digest, tuple(blocks), tuple(readers), facts)


def _files(root: Path) -> tuple[dict[str, Path], dict[str, int]]:
    """Files of known kinds below a place, by their names there, which begin with the name of the
    place: several may be read into one index. And the suffixes of the others."""
    if root.is_file():
        return {root.name: root}, {}
    found: dict[str, Path] = {}
    left_out: dict[str, int] = {}
    for file in _walked(root):
        if suffix_of(file.name) in formats():
            found[f"{root.resolve().name}/{file.relative_to(root).as_posix()}"] = file
        else:
            suffix = file.suffix.lower() or file.name
            left_out[suffix] = left_out.get(suffix, 0) + 1
    return dict(sorted(found.items())), left_out


def _walked(root: Path) -> Iterator[Path]:
    """Regular files, hidden ones and links left out."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            if not name.startswith(".") and file.is_file() and not file.is_symlink():
                yield file
