"""An index in an object store, by its URL: shards that never change, and a manifest of them.

    s3://bucket/handbook/changes/00000012.json    the manifest after the twelfth change
                         shards/..                what it names (`shard`)

A change writes the shards that it touches anew, beside the old ones, and then the next manifest:
until that is there, the index is what it was, and whoever is killed has changed nothing. Of two
that write the same manifest, the store takes one (`objects.create`); the other is told, reads it,
and puts its own change on top. Then the objects that nobody names any more are deleted. Whoever
reads has copies of the shards on a disk, by what they hold, and none of what is gone.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from morphogen.core.errors import BundleError
from morphogen.core.storage import PARTIAL
from morphogen.core.visible import in_shell
from morphogen.systems.knowledge.held import Held, Lately
from morphogen.systems.knowledge.manifest import VERSION, Manifest, Part, named, written
from morphogen.systems.knowledge.objects import Objects, damaged
from morphogen.systems.knowledge.passage import Document, Passage
from morphogen.systems.knowledge.shard import Shard, Taken, write_shard
from morphogen.systems.knowledge.snapshot import Postings, Rows, Snapshot
from morphogen.systems.knowledge.storing import EVERYWHERE, Listed, Where
from morphogen.systems.knowledge.vectors import Floats

SHARDS = "shards"
TABLES, VECTORS = f"{SHARDS}/t", f"{SHARDS}/v"  # how their names begin
ROWS = 1 << 14  # passages of a shard, but where one document has more
UNSAVED = 60.0  # seconds after which what was taken in is written, at the latest
LOOKED = 1.0  # seconds after which one looks whether another has changed the index
TRIES = 10  # to be first with a change
MANIFESTS = 20  # of the past that stay: by these a writer that slept sees that it is late


@dataclass
class Pending:
    """What is to be written."""

    taken: dict[str, Taken] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    readers: dict[str, Sequence[str]] = field(default_factory=dict)
    rows: int = 0  # passages that were taken in
    since: float = field(default_factory=time.monotonic)

    def __bool__(self) -> bool:
        return bool(self.taken or self.gone or self.readers)

    def take(self, new: Taken) -> None:
        """A document, behind the others, in place of itself."""
        before = self.taken.pop(new.document.place, None)
        self.rows += len(new.passages) - (len(before.passages) if before else 0)
        self.taken[new.document.place] = new


@dataclass
class Plan:
    """A shard that is to be: of those that there are, or a new one."""

    old: list[int]  # their numbers
    rows: int
    is_new: bool = False
    more: list[Taken] = field(default_factory=list)


def plans(sizes: Sequence[int], touched: Set[int], more: Iterable[Taken], most: int) -> list[Plan]:
    """How rows are shared out. `sizes` are those that will be left of each shard that there is; of
    neighbours that are small, one of them `touched`, one is made; `more` goes on where the last one
    ends."""
    made: list[Plan] = []
    for number, size in enumerate(sizes):
        plan = Plan([number], size, number in touched)
        changes = plan.is_new or (made and made[-1].is_new)
        if made and size and changes and made[-1].rows + size <= most // 2:
            made[-1] = Plan([*made[-1].old, number], made[-1].rows + size, True)
        else:
            made.append(plan)
    for each in more:
        num = len(each.passages)
        if not made or (made[-1].rows and made[-1].rows + num > most):
            made.append(Plan([], 0, True))
        made[-1].more.append(each)
        made[-1].rows, made[-1].is_new = made[-1].rows + num, True
    return made


class Shards:
    """See `storing.Storing`. Any number read, and write: who comes second is told."""

    def __init__(self, objects: Objects, manifest: Manifest) -> None:
        self.objects, self.manifest = objects, manifest
        self.about, self.name = dict(manifest.about), objects.url
        self.dim, self.language = int(self.about["dim"]), self.about["language"]
        self._looked = time.monotonic()
        self._pending = Pending()
        self._snapshot: tuple[Manifest, Snapshot] | None = None
        self._lately = Lately()

    @classmethod
    def make(cls, url: str, about: Mapping[str, Any]) -> Shards:
        """A new index where there is none."""
        objects = Objects(url)
        manifest = Manifest(1, {"version": VERSION, **about}, ())
        if written(objects) or not objects.create(named(1), manifest.told()):
            raise BundleError("there is an index here already", where=objects.url)
        return cls(objects, manifest)

    @classmethod
    def open(cls, url: str) -> Shards:
        """Raises `BundleError` where there is no index, or one of another version."""
        objects = Objects(url)
        if (manifest := Manifest.newest(objects)) is None:
            raise BundleError(
                "there is no index here", where=objects.url,
                hint=f"morphogen index DOCUMENTS --out {in_shell(objects.url)}",
            )  # fmt: skip
        objects.forget_copies(manifest.objects)
        return cls(objects, manifest)

    @staticmethod
    def is_there(url: str) -> bool:
        """Whether there is one."""
        return bool(written(Objects(url)))

    def close(self) -> None:
        """See `storing.Storing`."""
        self.settle()

    # -- what is read ------------------------------------------------------------------------

    def change(self) -> int:
        """See `storing.Storing`."""
        self.settle()
        if time.monotonic() - self._looked >= LOOKED:
            self._look()
        return self.manifest.number

    def snapshot(self) -> Snapshot:
        """The shards of now."""
        self.change()
        return self._opened()

    def digests(self) -> dict[str, str]:
        """See `storing.Storing`."""
        return {p: d for each in self.snapshot().shards for p, d in each.digests().items()}

    def documents(self, groups: Iterable[str] | None = None) -> list[Listed]:
        """See `storing.Storing`."""
        own = None if groups is None else tuple(groups)
        found = (each for shard in self.snapshot().shards for each in shard.documents(own))
        return sorted(found, key=lambda listed: listed.place)

    def counted(self, groups: Iterable[str]) -> tuple[int, int]:
        """See `storing.Storing`."""
        own = tuple(groups)
        found = [each.counted(own) for each in self.snapshot().shards]
        return sum(num for num, _ in found), sum(size for _, size in found)

    def text(self, place: str, groups: Iterable[str] | None = None) -> str:
        """See `storing.Storing`."""
        own = None if groups is None else tuple(groups)
        for shard in self.snapshot().shards:
            if (found := shard.found_text(place, own)) is not None:
                return found
        raise BundleError("there is no such document in the index", found=place)

    def of_document(self, place: str) -> list[Passage]:
        """See `storing.Storing`."""
        return [p for each in self.snapshot().shards for p in each.of_document(place)]

    def readable(self, groups: Iterable[str], where: Where = EVERYWHERE) -> Held:
        """See `storing.Storing`. The rows of a set of groups stay in memory, and nothing else."""
        snapshot = self.snapshot()

        def made(named: tuple[str, ...]) -> Held:
            rows = snapshot.allowed(named, where)
            words = Postings(snapshot, self.language)
            return Held(rows, Rows(snapshot, rows), words, snapshot.passages)

        return self._lately.of(self.manifest.number, groups, where, made)

    def _look(self) -> None:
        """Go on to what others have written, and leave no copy of what they took away."""
        newest = Manifest.newest(self.objects, self.manifest)
        if newest is None:
            raise BundleError("the index that was here is gone", where=self.name)
        self._looked = time.monotonic()
        if newest is not self.manifest:
            self.manifest = newest
            self.objects.forget_copies(newest.objects)

    def _opened(self) -> Snapshot:
        """The shards that the manifest names, or a newer one where some of them are gone."""
        while self._snapshot is None or self._snapshot[0] is not self.manifest:
            old = self.manifest
            known = dict(zip(self._snapshot[0].parts, self._snapshot[1].shards, strict=True)
                         if self._snapshot else ())  # fmt: skip
            try:
                shards = [known.get(part) or self._open(part) for part in old.parts]
            except FileNotFoundError as error:
                self._look()
                if self.manifest is old:
                    raise damaged(
                        "a shard of this index is missing",
                        where=str(error),
                        found="nothing",
                        expected="what the manifest names",
                    ) from error
                continue
            self._snapshot = old, Snapshot(shards)
        return self._snapshot[1]

    def _open(self, part: Part) -> Shard:
        files = [self.objects.local(each) for each in part.objects]
        return Shard(files[0], files[1] if len(files) > 1 else None, self.dim)

    # -- what is written ---------------------------------------------------------------------

    def put(self, document: Document, passages: Sequence[Passage], vectors: Floats) -> None:
        """See `storing.Storing`. It is written with others: when they fill a shard, after a while,
        when the index is read, at the end."""
        if not self._pending:
            self._pending = Pending()
        self._pending.take(Taken(document, passages, vectors))
        is_old = time.monotonic() - self._pending.since > UNSAVED
        if is_old or self._pending.rows >= ROWS:
            self.settle()

    def remove(self, places: Iterable[str]) -> int:
        """See `storing.Storing`."""
        there = set(places) & self.digests().keys()
        self._pending.gone |= there
        self.settle()
        return len(there)

    def restrict(self, place: str, readers: Sequence[str]) -> None:
        """See `storing.Storing`."""
        if place in self.digests():
            self._pending.readers[place] = readers
            self.settle()

    def settle(self) -> None:
        """See `storing.Storing`: write what is pending, on top of what others have written."""
        if not self._pending:
            return
        for _ in range(TRIES):
            self._look()
            lying = self.objects.names(SHARDS)  # if not named in the end, nobody ever will
            new = self._written()
            if self._is_first(new):
                self._pending = Pending()
                self._take_over(new, lying)
                return
            warnings.warn(
                f"another writer has changed {self.name} meanwhile: this change is put on top of "
                "that one", stacklevel=2,
            )  # fmt: skip
        raise BundleError(
            "others write to this index all the time, and were always first", where=self.name,
            hint="run the same command again: what is there already is not read again",
        )  # fmt: skip

    def _is_first(self, new: Manifest) -> bool:
        """Whether a manifest is the one that follows the last one. Where that is gone, it was long
        ago, and whatever was created is of a past that nobody reads."""
        created = self.objects.create(named(new.number), new.told())
        return created and new.number - 1 in written(self.objects)

    def _take_over(self, new: Manifest, lying: Sequence[str]) -> None:
        """Read what was written from now on, and delete what nobody names."""
        named_now = {kept.name for kept in new.objects}
        gone = [name for each in lying if (name := f"{SHARDS}/{each}") not in named_now]
        past = (number for number in written(self.objects) if number <= new.number - MANIFESTS)
        self.objects.delete([*gone, *map(named, past)])
        self.manifest = new
        self._looked = time.monotonic()
        self.objects.forget_copies(new.objects)

    def _written(self) -> Manifest:
        """The manifest of what is there and what is pending. Its shards are written, it is not."""
        pending, snapshot = self._pending, self._opened()
        known = self.manifest.objects
        gone = pending.gone | pending.taken.keys()
        sizes = [len(each.left(gone)) for each in snapshot.shards]
        moved = gone | pending.readers.keys()
        touched = {n for n, s in enumerate(snapshot.shards) if not s.places.isdisjoint(moved)}
        versions = snapshot.versions(pending.taken)
        parts = []
        for plan in plans(sizes, touched, pending.taken.values(), ROWS):
            if not plan.is_new:
                parts.append(self.manifest.parts[plan.old[0]])
                continue
            with TemporaryDirectory(PARTIAL, ".", self.objects.folder()) as folder:
                tables, vectors = Path(folder, "rows.sqlite"), Path(folder, "rows.f32")
                num, rows = write_shard(
                    tables, vectors, [snapshot.shards[n] for n in plan.old], plan.more, gone=gone,
                    readers=pending.readers, versions=versions, language=self.language,
                )  # fmt: skip
                if num:
                    kept = self.objects.put(vectors, VECTORS, known) if self.dim else None
                    parts.append(Part(self.objects.put(tables, TABLES, known), kept, rows))
        return Manifest(self.manifest.number + 1, self.about, parts)
