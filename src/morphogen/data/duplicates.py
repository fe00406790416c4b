"""Which items are there twice: exact copies by content hash, near-duplicates by fingerprint."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from morphogen.core.codec import CanFingerprint, Problem, Report
from morphogen.core.errors import DataError
from morphogen.core.storage import write_text
from morphogen.data.encoding import read_scan
from morphogen.data.names import firsts, one_of_each_file
from morphogen.data.neighbours import members
from morphogen.data.scan import EVERY, Scan

HELD = ("test", "validation")


@dataclass
class Group:
    """Items that show the same: one to keep, the others to leave out."""

    kind: str  # "exact" or "near"
    keep: str
    leave_out: list[str]
    likeness: float = 1.0  # of what is left out to what is kept, the least
    across_splits: bool = False
    labels: list[str] = field(default_factory=list)  # more than one: the copies contradict


@dataclass
class Duplicates:
    """The answer to `morphogen data dedupe SOURCE`."""

    source: str
    num_items: int
    groups: list[Group]
    near_compared: bool  # False: the codec has no fingerprints, only exact copies are known
    skipped: list[Problem] = field(default_factory=list)

    @property
    def leave_out(self) -> list[str]:
        """Every item that another one stands for."""
        return [name for group in self.groups for name in group.leave_out]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def text(self, most: int = 20) -> str:
        """For a terminal."""
        kinds = {kind: [g for g in self.groups if g.kind == kind] for kind in ("exact", "near")}
        counts = ", ".join(
            f"{sum(len(g.leave_out) for g in groups):,} {name} in {len(groups):,} groups"
            for (kind, groups), name in zip(
                kinds.items(), ("exact copies", "near-duplicates"), strict=True
            )
        )
        lines = [f"{self.source}: {self.num_items:,} items, {counts}"]
        if not self.near_compared:
            lines.append("  near-duplicates are not looked for: this modality has no fingerprints")
        for group in self.groups[:most]:
            more = len(group.leave_out) - 3
            listed = ", ".join(group.leave_out[:3]) + (f" and {more:,} more" if more > 0 else "")
            notes = ["across train and test"] if group.across_splits else []
            notes += [f"labels differ: {', '.join(group.labels)}"] if group.labels else []
            lines += [
                f"  {group.kind}, likeness {group.likeness:.3f}" + "".join(f"; {n}" for n in notes),
                f"      keep      {group.keep}",
                f"      leave out {listed}",
            ]
        if len(self.groups) > most:
            lines.append(f"  and {len(self.groups) - most:,} groups more (--json lists all)")
        return "\n".join(lines)

    def write_list(self, path: Path | str) -> Path:
        """The names of the items to leave out, one a line."""
        return write_text(Path(path), "".join(f"{name}\n" for name in self.leave_out))

    def move_to(self, folder: Path | str) -> int:
        """Move the files to leave out into `folder`, keeping their paths below the source. Nothing
        is deleted. Raises `DataError` when an item is no file of a folder."""
        source, target = Path(self.source), Path(folder)
        files = [source / name for name in self.leave_out]
        if missing := next((file for file in files if not file.is_file()), None):
            raise DataError(
                "only files in a folder can be moved",
                found=str(missing),
                where=self.source,
                hint="write the list with --out, and leave those rows out",
            )
        if target.resolve().is_relative_to(source.resolve()):
            raise DataError(
                "the duplicates would stay in the data", found=str(target), where=self.source
            )
        for file, name in zip(files, self.leave_out, strict=True):
            place = target / name
            if place.exists():
                raise DataError("a file of this name is there already", where=str(place))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, place)
        return len(files)


def find_duplicates(
    source: Path | str, modality: str | None = None, *, near: bool = True, **codec_options: Any
) -> Duplicates:
    """Look for items of `source` that show the same. Of a group, the largest is kept; of equals,
    the earliest; where the source has its own splits, one of the test split before all."""
    scan, report = Scan(near=near, most_compared=EVERY), Report(str(source))
    codec = read_scan(source, modality, codec_options, report, scan)
    groups = groups_of(scan)
    compared = near and isinstance(codec, CanFingerprint)
    return Duplicates(str(source), len(scan.names), groups, compared, report.skipped)


def groups_of(scan: Scan) -> list[Group]:
    """The groups of a scan, in the order of their first items. Everything in a group shows the same
    as what is kept: chains, of items each like the next and the ends unlike, are taken apart."""
    first = firsts(scan.digests.words)
    found = []
    for linked in members(scan.groups()):
        left = linked
        while len(left) > 1:
            keep = _best(scan, left)
            alike = _alike(scan, keep, left, first)
            if len(one_of_each_file(scan.names[i] for i in alike)) > 1:
                found.append((min(alike), _group(scan, keep, alike)))
            left = [i for i in left if i not in alike]
    return [group for _, group in sorted(found, key=lambda each: each[0])]


def _best(scan: Scan, numbers: Sequence[int]) -> int:
    """The item to keep."""
    return min(numbers, key=lambda i: (scan.own[i] not in HELD, -scan.sizes[i], i))


def _alike(scan: Scan, keep: int, numbers: Sequence[int], first: np.ndarray) -> dict[int, float]:
    """Of some items those that show the same as the one to keep, itself among them, and their
    likeness to it. `first` has the first copy of each item, whose fingerprint is known."""
    digest = scan.digests[keep]
    likeness = {digest: 1.0}
    others = sorted({int(first[i]) for i in numbers} - {int(first[keep])})
    if others and scan.prints is not None:
        near = scan.prints.alike(int(first[keep]), others)
        likeness |= {scan.digests[i]: value for i, value in near.items()}
    return {i: likeness[scan.digests[i]] for i in numbers if scan.digests[i] in likeness}


def _group(scan: Scan, keep: int, alike: Mapping[int, float]) -> Group:
    labels = sorted({str(scan.labels[i]) for i in alike if scan.labels[i] is not None})
    sides = {scan.own[i] in HELD for i in alike if scan.own[i] is not None}
    same = len({scan.digests[i] for i in alike}) == 1
    names = [scan.names[keep], *(scan.names[i] for i in alike)]
    return Group(
        "exact" if same else "near",
        scan.names[keep],
        [each for each in one_of_each_file(names) if each != scan.names[keep]],
        round(min(alike.values()), 4),
        len(sides) > 1,
        labels if len(labels) > 1 else [],
    )
