"""From the files of a folder or archive to records: first the names, which say what they mean."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from morphogen.core.codec import SPLITS_FILE, Problem, Report
from morphogen.core.errors import DataError
from morphogen.provenance.beside import SUFFIX as CREDENTIAL
from morphogen.provenance.beside import tags_of
from morphogen.sources import delimited, lines, parquet
from morphogen.sources._columns import suffix_of
from morphogen.sources._files import File, Listing, is_archive, walk
from morphogen.sources._foreign import known_by_contents, known_by_suffix
from morphogen.sources._half import captioned, several
from morphogen.sources._layout import Layout
from morphogen.sources._pairs import (
    BESIDE,
    beside,
    halves_of,
    paired_records,
    paired_tables,
    stem_of,
)
from morphogen.sources._record import Record, Survey, Wants
from morphogen.sources._regular import open_regular
from morphogen.sources._sidecar import (
    ATTACHED,
    MAX_ATTACHED,
    STYLEGAN,
    Files,
    Sidecar,
    attached_conditions,
    is_caption,
    stylegan_table,
)
from morphogen.sources._table import Table

HEAD = 64  # bytes by which a file without a known suffix is told
FEW_STARTS = 3  # files of a suffix that are looked into
TABLES = delimited.SUFFIXES + lines.SUFFIXES + parquet.SUFFIXES
Read = Callable[[], bytes]


@dataclass
class Tree:
    """What a first walk found: items by name, tables, what belongs to items, and the rest."""

    root: Path
    items: list[File] = field(default_factory=list)
    tables: list[tuple[str, Table]] = field(default_factory=list)
    attached: dict[str, dict[str, Read]] = field(default_factory=dict)  # path without suffix
    credentials: dict[str, Read] = field(default_factory=dict)  # path of the item they are of
    others: list[str] = field(default_factory=list)
    unread: list[File] = field(default_factory=list)  # of these, those that are no tables
    seen: Listing = field(default_factory=Listing)

    @classmethod
    def of(cls, root: Path, wants: Wants) -> Tree:
        """Walk once. What lies in archives is read again when it is an item."""
        tree = cls(root)
        told = _Told(wants)
        for file in walk(root, tree.seen):
            suffix = suffix_of(file.path)
            if suffix == CREDENTIAL:
                tree.credentials[file.path[: -len(suffix)]] = _kept(file)
            elif suffix in wants.suffixes or told.by_start(file, suffix):
                tree.items.append(file)
            elif suffix in ATTACHED and PurePosixPath(file.path).name != STYLEGAN:
                tree._attach(file, suffix)
            elif file.path != SPLITS_FILE and not tree._add_table(file, suffix):
                tree.others.append(file.path)
                tree.unread.append(file)
        tree._detach()
        return tree

    def _attach(self, file: File, suffix: str) -> None:
        """Keep a file that may belong to an item."""
        self.attached.setdefault(file.path[: -len(suffix)], {})[suffix] = _kept(file)

    def _detach(self) -> None:
        """Tables and other files that belong to no item; captions that are only numbers."""
        if not self.attached:
            return
        stems = {stem_of(file.path) for file in self.items}
        for stem in [stem for stem in self.attached if stem not in stems]:
            for suffix, read in self.attached.pop(stem).items():
                file = File(stem + suffix, stem + suffix, read, str(self.root / (stem + suffix)))
                if suffix != ".json" or not self._add_table(file, suffix):
                    self.others.append(stem + suffix)
        texts = [parts[".txt"] for parts in self.attached.values() if ".txt" in parts]
        if texts and not any(is_caption(_head(read)) for read in texts[:50]):
            for stem, parts in self.attached.items():
                if parts.pop(".txt", None):
                    self.others.append(f"{stem}.txt")

    def _add_table(self, file: File, suffix: str) -> bool:
        """Open a table; False when the file is none."""
        name = PurePosixPath(file.path).name
        try:
            if name == STYLEGAN:
                table = stylegan_table(file.read(), file.path)
            elif suffix in parquet.SUFFIXES and file.disk:
                table = parquet.parquet_table(Path(file.disk), file.path)
            elif suffix in delimited.SUFFIXES + lines.SUFFIXES:
                table = text_table(file, suffix)
            else:
                table = None
        except DataError:
            if PurePosixPath(name).stem.lower() in NAMED_TABLES:
                raise
            table = None
        if table is not None:
            self.tables.append((file.path, table))
        return table is not None

    def note_left_out(self, wants: Wants, report: Report) -> None:
        """Say which files of the kind that is wanted are none of the pairs that tables tell of."""
        report.problems += self.seen.problems
        if self.items:
            paths = [file.path for file in self.items]
            said = told_of(f"{wants.what} file", paths, "not read: no half of the pairs here")
            fix = "name them as the source, to learn them"
            report.problems.append(Problem(report.source, said, fix))


NAMED_TABLES = ("captions", "metadata", "labels", "tags")


def text_table(file: File, suffix: str) -> Table:
    """A CSV, TSV or JSON file of a tree as a table."""
    opener: Callable[[], Any] = partial(open_regular, file.disk)
    if not file.disk:
        opener = partial(io.BytesIO, file.read())
    make = delimited.delimited_table if suffix in delimited.SUFFIXES else lines.lines_table
    return make(opener, file.path, None, file.path)


class _Told:
    """Which files without a known suffix are items, by their first bytes."""

    def __init__(self, wants: Wants) -> None:
        self.wants = wants
        self.counts: dict[str, list[bool]] = {}
        self.skip = {*TABLES, *ATTACHED, *wants.convert, ".md", ".html", ".py", ".xml", ".yaml"}

    def by_start(self, file: File, suffix: str) -> bool:
        """A suffix that a few files tell is told for all; files without one, each for itself."""
        sniff = self.wants.sniff
        if sniff is None or suffix in self.skip or is_archive(file.path):
            return False
        alone = not suffix or suffix[1:].isdecimal() or " " in suffix
        told = self.counts.setdefault(suffix, [])
        if not alone and len(told) >= FEW_STARTS:
            return all(told)
        told.append(sniff(_head(file.read if not file.disk else partial(_start, file.disk))))
        return told[-1]


def _kept(file: File) -> Read:
    """What reads a small file: of an archive, it is read while it passes."""
    if file.disk or file.num_bytes > MAX_ATTACHED:
        return file.read
    return partial(_given, _read_now(file))


def _start(path: str) -> bytes:
    with open_regular(path) as stream:
        return stream.read(HEAD)


def _head(read: Read) -> bytes:
    try:
        return read()[:HEAD]
    except (DataError, OSError, RuntimeError):
        return b""


# -- records --------------------------------------------------------------------------------------


def tree_records(root: Path, wants: Wants, report: Report) -> Iterator[Record]:
    """The items of a folder or archive, with what names, tables and files beside them say."""
    tree = Tree.of(root, wants)
    if paired := paired_tables(tree.tables, tree.unread, wants):
        tree.note_left_out(wants, report)
        yield from paired_records(paired, tree.unread, root, wants, report)
        return
    layout = Layout.of(file.place for file in tree.items)
    used, targets = _used(tree, layout, wants, report)
    files = Files([file.path for file in used])
    sidecars = []
    for path, table in tree.tables:
        sidecar = Sidecar.match(table, path, files, wants, report)
        if sidecar is None:
            tree.others.append(path)
        else:
            sidecars.append(sidecar)
    by_table = any(PurePosixPath(s.name).name == STYLEGAN and s.by_path for s in sidecars)
    partners = beside(used, tree.unread) if wants.cell is not None else {}
    halves = halves_of([*partners.values(), *targets], root)
    belong = _belonging(targets, layout)
    tree.others = [path for path in tree.others if path not in halves]
    _note(tree, wants, report)
    for file in _again(root, tree, used):
        split, label = layout.read(file.place)
        cond: dict[str, Any] = {} if label is None or by_table else {"label": label}
        if tree.attached and (parts := tree.attached.get(stem_of(file.path))):
            cond |= attached_conditions(parts)
        if file.path in partners:
            cond[BESIDE] = halves[partners[file.path].path]
        for name, target in belong.get(layout.part(file.place)[1], {}).items() if belong else ():
            cond[name] = halves[target.path]
        credential = tree.credentials.get(file.path)
        tags = tags_of(credential()) if credential is not None else {}
        captions: list[Any] = []
        for sidecar in sidecars:
            for row in sidecar.by_path.get(file.path, ()):
                said = sidecar.conditions(row)
                captions += several(said.pop("caption")) if "caption" in said else []
                cond |= said
                split = sidecar.columns.split_in(row) or split
                tags |= sidecar.columns.tags(row)
        suffix = suffix_of(file.path)
        size = max(file.num_bytes, 0)
        disk = file.disk or None
        for name, own in captioned(file.path, cond, captions):
            yield Record(name, "file", file.read, suffix, own, split, dict(tags), disk, size)


def _again(root: Path, tree: Tree, used: Sequence[File]) -> Iterator[File]:
    """The files that are used; those in archives are read on the way, one after the other."""
    if all(file.disk for file in used):
        yield from used
        return
    wanted = {file.path: None for file in used}
    for file in walk(root, Listing()):
        if file.path in wanted:
            if not file.disk:
                file.read = partial(_given, _read_now(file))
            yield file


def _read_now(file: File) -> bytes | DataError:
    """The bytes of a member of an archive, or the error to raise in their place."""
    try:
        return file.read()
    except DataError as error:
        return error


def _given(data: bytes | DataError) -> bytes:
    if isinstance(data, DataError):
        raise data
    return data


def _belonging(targets: Sequence[File], layout: Layout) -> dict[str, dict[str, File]]:
    """Targets by what they have in common with their items, and by the folder that they lie in."""
    found: dict[str, dict[str, File]] = {}
    for file in targets:
        folder, common = layout.part(file.place)
        found.setdefault(common, {})[folder] = file
    return found


def _used(
    tree: Tree, layout: Layout, wants: Wants, report: Report
) -> tuple[list[File], list[File]]:
    """The items, without those whose folders say that they are something else; and what of these
    belongs to the items."""
    uses: dict[str, list[File]] = {"item": [], "target": [], "beside": []}
    for file in tree.items:
        uses[layout.use(file.place)].append(file)
    folders = sorted({layout.part(file.place)[0] for file in uses["target"]})
    told = {
        "target": (
            "belong to the items beside them, and are not read as items",
            f"--condition {','.join(folders)} learns items for them; to learn them instead, name "
            "their folder as the source",
        ),
        "beside": (
            "lie beside the folders of the splits, and are not read",
            "move them into the folder of the split that they belong to",
        ),
    }
    for use, (reason, fix) in told.items():
        if found := [file.path for file in uses[use]]:
            said = told_of(wants.what, found, reason)
            report.problems.append(Problem(report.source, said, fix))
    return uses["item"], uses["target"]


def _note(tree: Tree, wants: Wants, report: Report) -> None:
    """Say what of the source is not read: one note a suffix, one problem for each item that
    another program could read."""
    report.problems += tree.seen.problems
    for kind, found, fix in (
        ("hidden", tree.seen.hidden, "rename it without the leading dot, if it is one of the data"),
        ("link", tree.seen.links, "pack the archive with what links stand for (tar --dereference)"),
    ):
        for archive, names in found.items():
            if items := [name for name in names if suffix_of(name) in wants.suffixes]:
                what = f"hidden {wants.what}" if kind == "hidden" else kind
                report.problems.append(Problem(archive, told_of(what, items), fix))
    kept: dict[str, list[str]] = {}
    for path in tree.others:
        suffix = suffix_of(path)
        if suffix in wants.convert:
            fix = wants.convert[suffix]
            report.problems.append(Problem(path, f"{suffix} is not read", fix, fatal=True))
        else:
            kept.setdefault(suffix, []).append(path)
    for suffix, paths in kept.items():
        reason = told_of(f"{suffix or 'suffixless'} file", paths, f"not read as {wants.what}s")
        known = known_by_suffix(suffix) or known_by_contents(tree.root / paths[0])
        fix = known[1] if known else f"nothing, if they are no {wants.what}s"
        report.problems.append(Problem(report.source, reason, fix))


def told_of(kind: str, names: Sequence[str], what: str = "not read") -> str:
    """`3 links not read: a.png, b.png, c.png`, the first three by name."""
    listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names):,} {kind}{'s' * (len(names) != 1)} {what}: {listed}"


# -- survey ---------------------------------------------------------------------------------------


def survey_tree(root: Path, kind: str, most: int = 100_000) -> Survey:
    """How many files of each suffix there are, looking at `most` at most."""
    found = Survey(kind, name=f"in the {kind}")
    stems: set[str] = set()
    attached: list[tuple[str, str]] = []
    try:
        for number, file in enumerate(walk(root, Listing())):
            if number >= most:
                break
            suffix = suffix_of(file.path)
            if suffix == CREDENTIAL:
                continue
            if suffix in ATTACHED:
                attached.append((file.path[: -len(suffix)], suffix))
                continue
            found.suffixes[suffix] += 1
            stems.add(file.path[: -len(suffix)] if suffix else file.path)
            starts = found.starts.setdefault(suffix, [])
            if len(starts) < FEW_STARTS:
                starts.append(_head(partial(_start, file.disk) if file.disk else file.read))
    except DataError as error:
        found.damaged = error
    for stem, suffix in attached:
        if stem not in stems:
            found.suffixes[suffix] += 1
    return found
