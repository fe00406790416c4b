"""Files into an index: only what changed is read and embedded again, what is gone is forgotten.

A file is known by its place and by the digest of its bytes. Each is one transaction, so that a
reading that was killed goes on where it was, with nothing twice; a file that cannot be read is
named with the reason, and what the index had of it stays. Files with the same text are read once.
Archives are gone through, and those within them: `papers.zip/2025/a.pdf` is a place.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from morphogen.core.errors import DataError, MorphogenError
from morphogen.core.visible import visible
from morphogen.data import progress
from morphogen.data.personal import Finder
from morphogen.sources import Listing, is_archive, read_regular, walk_archive
from morphogen.systems.knowledge.copies import Copies
from morphogen.systems.knowledge.cutting import passages
from morphogen.systems.knowledge.formats import blocks_of, formats, suffix_of
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.passage import EVERYONE, Document

MOST_BYTES = 1 << 28  # of one file
MOST_MEMBERS, DEEPEST = 100_000, 4  # files of an archive; archives within archives

Found = tuple[str, Callable[[], bytes]]  # a place, and what reads the file there


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
    told = Read()
    known = {
        place: digest
        for place, digest in index.store.digests().items()
        if place.partition("/")[0] == root.resolve().name
    }
    digests = {}
    for place, read in progress.told(_files(root, told), "looking for what changed", None):
        try:
            digests[place] = hashlib.sha256(read()).hexdigest()
        except MorphogenError as error:
            told.problems[place] = error.message
    if not digests and not told.problems:
        raise DataError(
            "there are no documents here", where=root, found=dict(told.left_out) or "nothing",
            expected=f"files such as {', '.join(sorted(formats()))}",
        )  # fmt: skip
    told.copies = _copies(digests, known)
    left = {
        place for place in digests
        if place not in told.copies and known.get(place) != digests[place]
    }  # fmt: skip
    told.same = len(digests) - len(told.copies) - len(left)
    again = ((place, read) for place, read in _files(root, Read()) if place in left)
    files = progress.told(again, "reading documents", len(left))
    documents = _read(files, readers, Finder() if index.store.about.get("masked") else None, told)
    if distinct:
        held = ((place, index.store.text(place)) for place in known if place in digests)
        documents = Copies(held).kept(documents, told.near)
    for document in documents:
        index.add(document, passages(document, index.store.about["most"]))
        (told.changed if document.place in known else told.added).append(document.place)
    there = (digests.keys() | told.problems.keys()) - told.copies.keys() - told.near.keys()
    unread = tuple(f"{place}/" for place in told.problems)  # archives
    told.removed = sorted(p for p in known if p not in there and not p.startswith(unread))
    if told.removed:
        index.store.remove(told.removed)  # which settles all
    else:
        index.store.settle()
    return told


def _read(
    files: Iterable[Found], readers: Sequence[str], finder: Finder | None, told: Read
) -> Iterator[Document]:
    """Files as documents; `told` learns why one cannot be read."""
    for place, read in files:
        try:
            document = document_of(place, read(), readers)
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


def _files(root: Path, told: Read) -> Iterator[Found]:
    """Files of known kinds below a place, by their names there, which begin with the name of the
    place: several may be read into one index. Each is to be read before the next is asked for.
    `told` learns what there is of other kinds, and which archives cannot be opened."""
    top = root.resolve().name
    files = (
        [(root.name, root)] if root.is_file()
        else [(f"{top}/{each.relative_to(root).as_posix()}", each) for each in _walked(root)]
    )  # fmt: skip
    for place, file in sorted(files):
        if is_archive(place):
            yield from _members(file, place, told)
        elif _is_known(place, told):
            yield place, partial(read_regular, file, MOST_BYTES)


def _is_known(place: str, told: Read) -> bool:
    """Whether there is a reader of such files; `told` counts the others."""
    if suffix_of(place) in formats():
        return True
    suffix = PurePosixPath(place).suffix.lower() or PurePosixPath(place).name
    told.left_out[suffix] = told.left_out.get(suffix, 0) + 1
    return False


def _members(file: Path, place: str, told: Read, depth: int = 1) -> Iterator[Found]:
    """The files in an archive, and in those within it."""
    try:
        for number, member in enumerate(walk_archive(file, place, "", Listing())):
            if number == MOST_MEMBERS:
                told.problems[place] = f"only its first {MOST_MEMBERS:,} files are read"
                return
            if not is_archive(member.path):
                if _is_known(member.path, told):
                    yield member.path, member.read
            elif depth == DEEPEST:
                told.problems[member.path] = f"archives are read {DEEPEST} deep, and no deeper"
            else:
                name = PurePosixPath(member.path).name
                with TemporaryDirectory() as folder:
                    inner = Path(folder, name)
                    inner.write_bytes(member.read())
                    yield from _members(inner, member.path, told, depth + 1)
    except MorphogenError as error:
        told.problems[place] = error.message


def _walked(root: Path) -> Iterator[Path]:
    """Regular files, hidden ones and links left out."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            if not name.startswith(".") and file.is_file() and not file.is_symlink():
                yield file
