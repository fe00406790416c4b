"""A source seen once: what every readable item is called, what it is like, where it belongs."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from morphogen.core.codec import Item, Problem
from morphogen.data.fingerprints import Fingerprints
from morphogen.data.halves import half_of
from morphogen.data.holdout import assign, digest_of, digests_of
from morphogen.data.names import Digests, Names, Repeated, Values, copies, firsts
from morphogen.data.neighbours import clusters, members
from morphogen.data.originals import Made
from morphogen.sources import (
    Coded,
    RecordBatch,
    RecordBatches,
    combined,
    in_batches,
)

# At every load near-duplicates are looked for among so many items, if so few pairs are proposed: a
# few seconds at most. The verbs that are there for it take what time it needs.
MOST_COMPARED, MOST_PAIRS = 5_000, 10_000
MOST_TEXT = 1 << 24  # characters that are looked at so: a second for four million
TOLD = ("licence", "consent", "source")  # tags of which is told how many items have which
KEPT = {"consent", "synthetic", "generator"}  # tags that decide what becomes of an item
MOST_KINDS = 1000  # values of a tag that are told; the others are counted together
OTHERS = "(others)"
EVERY = 1 << 40  # as `most_compared`: whatever it takes


@runtime_checkable
class CanGroup(Protocol):
    """Optional for a codec: ways of its own to tell which items must not be divided."""

    @property
    def groupings(self) -> Mapping[str, Callable[[Any], str]]:
        """By name: a raw value to what it is of; "" for one that is by itself."""


@dataclass
class Scan:
    """Every readable item's name, split, content hash, label and tags, in reading order: some 70
    bytes an item, and its name where it is a file of its own."""

    names: Names = field(default_factory=Names)
    own: Repeated = field(default_factory=Repeated)  # the splits that the source names
    digests: Digests = field(default_factory=Digests)
    labels: Repeated = field(default_factory=Repeated)
    captions: Values = field(default_factory=Values)
    halves: Repeated = field(default_factory=Repeated)  # the file that is said of each
    said: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))  # of all of them
    tags: Repeated = field(default_factory=Repeated)  # dicts: of each item, those in `KEPT`
    columns: set[str] = field(default_factory=set)  # what tags there are
    told: dict[str, Counter[str]] = field(default_factory=lambda: {tag: Counter() for tag in TOLD})
    sizes: array[int] = field(default_factory=lambda: array("q"))  # bytes of each, about
    prints: Fingerprints | None = None  # of the first of each set of exact copies
    splits: Repeated = field(default_factory=Repeated)
    # As they came, in batches or in lists; None when they are too large to keep.
    items: list[list[Item] | RecordBatch] | None = field(default_factory=list)
    near: bool | None = None  # look for near-duplicates; None: where the source has no splits
    most_compared: int = MOST_COMPARED
    text: int = 0  # characters seen
    made: Made = field(default_factory=Made)  # by a model: what may be in here
    group_by: str | None = None  # a column, or a pattern of names: what must not be divided
    synthetic: Literal["hold_out", "include"] = "hold_out"
    file_names: str | None = None  # what the names of items say: see `data.file_names`
    given: str | None = None  # the modality whose items are said of the texts: see `data.turned`

    def __post_init__(self) -> None:
        if self.given is not None:  # what is said may be the same where it is said anew
            self.near = False

    def see(self, items: Iterable[Item], codec: Any = None, keep_bytes: int = 0) -> None:
        """Record every item; keep them in memory up to `keep_bytes`."""
        self.prints = Fingerprints(codec)
        own = codec.groupings if isinstance(codec, CanGroup) else {}
        by = own.get(self.group_by or "")
        seeing = _Seeing(self, by, keep_bytes)
        for some in in_batches(items, 1):
            digests = self._digests(some) if by is None else None
            if isinstance(some, RecordBatch) and digests is not None:
                seeing.see_batch(some, digests)
            else:
                for item in some:
                    seeing.see(item)
            seeing.keep(some)
        self._take(seeing.waiting)

    def again(self) -> Iterable[Item] | None:
        """The items once more, where they were kept."""
        if self.items is None:
            return None
        if any(isinstance(some, RecordBatch) for some in self.items):
            return RecordBatches(self.items)
        return itertools.chain.from_iterable(self.items)

    def _digests(self, some: Sequence[Item]) -> Digests | None:
        """The content hashes of a batch; None where its items are looked at one by one: as a model
        may have made one of them."""
        if not isinstance(some, RecordBatch) or self._looks_at(some):
            return None
        digests = Digests()
        digests.extend(digests_of(some))
        return None if self.made.may_include_any(digests.words) else digests

    def _looks_at(self, batch: RecordBatch) -> bool:
        """Whether items of a batch are looked at one by one: the first, whose fingerprints tell
        what is near what."""
        return self.near is not False or self.given is not None or "caption" in batch.cond

    def _grouped(self, item: Item, by: Callable[[Any], str]) -> dict[str, str]:
        """The tags of an item, and what it is of by a grouping of its codec."""
        name = self.group_by or ""
        return item.tags if name in item.tags else {**item.tags, name: by(item.value)}

    def _note(self, tags: dict[str, str]) -> None:
        """Keep of an item's tags what is asked for later, and count what is told."""
        kept = {tag: value for tag, value in tags.items() if tag in KEPT or tag == self.group_by}
        self.tags.append(kept)
        self.columns.update(tags)
        for tag in TOLD if tags else ():
            if value := tags.get(tag):
                counts = self.told[tag]
                counts[value if value in counts or len(counts) < MOST_KINDS else OTHERS] += 1

    def _note_batch(self, batch: RecordBatch) -> None:
        """`_note` of all items of a batch."""
        names = [tag for tag in batch.tags if tag in KEPT or tag == self.group_by]
        rows = combined([batch.tags[name] for name in names], len(batch))
        named = (zip(names, row, strict=True) for row in rows.values)
        kept = [{tag: value for tag, value in row if value is not None} for row in named]
        self.tags.extend(Coded(kept, rows.codes))
        new = [tag for tag in batch.tags if tag not in self.columns]
        self.columns.update(tag for tag in new if any(batch.tags[tag].values))
        for tag in TOLD:
            if tag in batch.tags:
                column, counts = batch.tags[tag], self.told[tag]
                for value, num in zip(column.values, column.counts().tolist(), strict=True):
                    if value:
                        known = value in counts or len(counts) < MOST_KINDS
                        counts[value if known else OTHERS] += num

    def _take(self, waiting: list[tuple[int, Item, bool]]) -> None:
        """Take the fingerprints that are waited for; where near-duplicates are given up, those of
        what a model may have made."""
        for number, item, suspect in waiting:
            if self.prints is not None and (suspect or self.near is not False):
                self.prints.see(number, item)
        waiting.clear()

    def _compares(self, number: int, item: Item) -> bool:
        """Whether to look for what is near this item. Without being asked, near-duplicates are not
        looked for where the source has its own splits; with too many items, never."""
        self.text += len(item.value) if isinstance(item.value, str) else 0
        long = self.text > MOST_TEXT and self.most_compared < EVERY
        unasked = self.near is None and item.split is not None
        if self.near is not False and (long or unasked or number >= self.most_compared):
            self.near = False
            if not self.made.entries:
                self.prints = Fingerprints(None)
        return self.near is not False

    def assign(self, entities: Repeated | None = None) -> None:
        """Give every item its split. Items of one entity, such as the pictures of one person, stay
        together; so do exact copies and, where they are looked for, near-duplicates."""
        words = self.digests.words
        if entities is not None:  # an entity stays on its side when items are added to it
            named = entities.codes != entities.code_of(None)
            of_kinds = Digests.of(entity_digest(str(each)) for each in entities.kinds).words
            words[named] = of_kinds[entities.codes[named]]
        self.splits = assign(self.own, words, self.labels, self.groups(entities))

    def groups(self, entities: Repeated | None = None) -> array[int]:
        """The cluster of each item: exact copies, near-duplicates, and items of one entity."""
        same = [firsts(self.digests.words)]
        for each in (entities, self.halves):  # captions of one picture stay together
            if each is None or not any(each.kinds):
                continue
            first = firsts(each.codes)
            none = each.codes == each.code_of(None)
            same.append(np.where(none, np.arange(len(first)), first))
        pairs = itertools.chain(*map(copies, same[1:]), ((i, j) for i, j, _ in self.near_pairs()))
        return clusters(same[0], pairs)

    def near_pairs(self) -> list[tuple[int, int, float]]:
        """Pairs that show the same, other than exact copies; found once."""
        if "_pairs" not in self.__dict__:
            wanted = self.prints is not None and self.near is not False
            most = MOST_PAIRS if self.near is None else None
            found = self.prints.pairs(most) if self.prints and wanted else []
            if found is None:
                self.near = False
            self.__dict__["_pairs"] = found or []
        pairs: list[tuple[int, int, float]] = self.__dict__["_pairs"]
        return pairs

    def leaks(self) -> list[Problem]:
        """Items of the test split that show the same as one of the training split."""
        problems = []
        roots, codes = np.asarray(self.groups()), self.splits.codes
        sides = [roots[codes == self.splits.code_of(side)] for side in ("train", "test")]
        crossing = np.flatnonzero(np.isin(roots, np.intersect1d(*sides)))
        for places in members(roots[crossing]):
            group = crossing[places].tolist()
            train = [number for number in group if self.splits[number] == "train"]
            test = [number for number in group if self.splits[number] == "test"]
            same = len({self.digests[number] for number in group}) == 1
            names = ", ".join(self.names[number] for number in train[:3])
            kind = "the same item is" if same else "nearly the same item is"
            reason = f"{kind} in the training and the test split: {names}"
            fix = "remove it from the training split, or let `morphogen data split` do it"
            problems.append(Problem(self.names[test[0]], reason, fix))
        return problems


class _Seeing:
    """One reading of a source, as far as it has come. `waiting` are those whose fingerprints are to
    be taken, if they are needed: with too many items, no others are taken."""

    def __init__(self, scan: Scan, by: Callable[[Any], str] | None, keep_bytes: int) -> None:
        self.scan, self.by, self.keep_bytes, self.kept = scan, by, keep_bytes, 0
        self.waiting: list[tuple[int, Item, bool]] = []
        self.seen: set[bytes] = set()
        self.said: dict[str, Any] = {}
        self.said_digest = digest_of(self.said)

    def see(self, item: Item) -> None:
        """Record an item."""
        scan, number = self.scan, len(self.scan.names)
        beside = () if scan.given is None else (item.cond[scan.given],)
        digest = digest_of((item.value, *beside) if beside else item.value)
        scan.names.append(item.name)
        scan.own.append(item.split)
        scan.digests.append(digest)
        scan.labels.append(item.cond.get("label"))
        scan.captions.append(item.cond.get("caption"))
        half = half_of(item.cond)
        scan.halves.append(None if half is None else half.name)
        if item.cond != self.said:  # items of one class follow one another
            self.said, self.said_digest = item.cond, digest_of(item.cond)
        scan.said.update(self.said_digest)
        scan._note(item.tags if self.by is None else scan._grouped(item, self.by))
        scan.sizes.append(num_bytes(item.value))
        suspect = scan.made.may_include(digest)
        if (scan._compares(number, item) or suspect) and digest not in self.seen:
            self.waiting.append((number, item, suspect))
            self.seen.add(digest)
        self.kept += scan.sizes[-1] + sum(map(num_bytes, beside))

    def see_batch(self, batch: RecordBatch, digests: Digests) -> None:
        """Record all items of a batch, whose fingerprints are not asked for."""
        scan, num = self.scan, len(batch)
        scan.names.extend(batch.stem, batch.numbers)
        scan.own.extend(batch.splits)
        scan.digests.extend(digests.data)
        nothing = Coded.same(None, num)
        scan.labels.extend(batch.cond.get("label", nothing))
        scan.captions.extend(nothing)
        scan.halves.extend(nothing)
        said = combined(list(batch.cond.values()), num)
        named = (zip(batch.cond, row, strict=True) for row in said.values)
        told = [{name: value for name, value in row if value is not None} for row in named]
        own = np.frombuffer(b"".join(map(digest_of, told)), np.uint8).reshape(-1, 16)
        scan.said.update(own[said.codes].tobytes())
        scan._note_batch(batch)
        scan.sizes.extend(itertools.repeat(batch.num_bytes // num, num))
        self.kept += batch.num_bytes

    def keep(self, some: Sequence[Item]) -> None:
        """Keep items as long as they are small; take fingerprints as soon as they are needed."""
        items = self.scan.items
        if self.kept > self.keep_bytes:
            self.scan.items = None
        elif items is not None:
            if isinstance(some, RecordBatch):
                items.append(some)
            elif len(some) == 1 and items and isinstance(items[-1], list):
                items[-1] += some
            else:
                items.append(list(some))
        if self.kept > self.keep_bytes or self.scan.near is not None:
            self.scan._take(self.waiting)


def entity_digest(name: str) -> bytes:
    """16 bytes that decide the split of an entity, whatever else there is."""
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def num_bytes(value: Any) -> int:
    """About how much memory a raw item takes."""
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    if hasattr(value, "getbands"):
        return 1000 + value.width * value.height * len(value.getbands())
    return 100 + len(str(value))
