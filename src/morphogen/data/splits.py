"""Splits that do not leak: near-duplicates and the items of one entity stay on one side.

`split` decides for every item and writes `splits.csv` into the folder of data, or `NAME.splits.csv`
beside a file. From then on `load` follows it, so that training and evaluation hold out the same.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from morphogen.core.codec import SPLITS_FILE, Problem, Report
from morphogen.core.errors import DataError, did_you_mean
from morphogen.core.storage import write_text
from morphogen.data.scan import EVERY, Scan

COLUMNS = ("file", "split", "group")


@dataclass
class SplitPlan:
    """The answer to `morphogen data split SOURCE`."""

    source: str
    num_train: int
    num_test: int
    num_groups: int  # groups of two items and more that stay together
    largest_group: int
    num_moved: int  # items whose split differs from the source's own
    path: str = ""  # the file that `load` follows
    skipped: list[Problem] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def text(self) -> str:
        """For a terminal."""
        lines = [
            f"{self.source}: {self.num_train:,} train, {self.num_test:,} test",
            f"  {self.num_groups:,} groups of copies, near-duplicates or one entity stay together"
            + (f", the largest of {self.largest_group:,}" if self.num_groups else ""),
        ]
        if self.num_moved:
            lines.append(f"  {self.num_moved:,} items are not where the source had them")
        if self.skipped:
            lines.append(f"  {len(self.skipped):,} items cannot be read and have no split")
        if self.path:
            lines.append(f"written to {self.path}, which every later command follows")
        return "\n".join(lines)


def split(
    source: Path | str,
    modality: str | None = None,
    *,
    by: str | None = None,
    repair: bool = False,
    write: bool = True,
    **codec_options: Any,
) -> SplitPlan:
    """Divide `source` so that nothing leaks, and write the division beside the data.

    `by` names what must stay together besides copies and near-duplicates: a column of the table, or
    a regular expression whose first group is read off file names. Where the source has its own
    splits and an item of the test split has a twin in the training split, raises `DataError` naming
    both; `repair` takes such training items, and those of the same entity, over to the test split.
    """
    from morphogen.data.dataset import read_scan

    scan = Scan(near=True, most_compared=EVERY, group_by=by)
    report = Report(str(source))
    read_scan(source, modality, codec_options, report, scan)
    entities = entities_of(scan, str(source))
    scan.assign(entities)
    groups = scan.groups(entities)
    own = list(scan.splits)
    if any(each in ("test", "validation") for each in scan.own):
        crossing = _crossing(groups, scan.splits)
        if crossing and not repair:
            raise leak(scan, crossing, str(source))
        for number, group in enumerate(groups):
            if group in crossing:
                scan.splits[number] = "test"
    sizes = [size for size in Counter(groups).values() if size > 1]
    plan = SplitPlan(
        str(source),
        scan.splits.count("train"),
        scan.splits.count("test"),
        len(sizes),
        max(sizes, default=1),
        sum(before != after for before, after in zip(own, scan.splits, strict=True)),
        skipped=report.skipped,
    )
    if write:
        plan.path = str(write_text(splits_path(source), _table(scan, groups)))
    return plan


def leak(scan: Scan, crossing: dict[int, tuple[int, int]], source: str) -> DataError:
    """The error for a training item and a test item that show the same or are of one entity."""
    train, test = next(iter(crossing.values()))
    more = len(crossing) - 1
    return DataError(
        "the training and the test split share items, which flatters every score",
        found=f"{scan.names[train]} (train) and {scan.names[test]} (test)"
        + (f", and {more:,} more such pairs" if more else ""),
        expected="copies, near-duplicates and the items of one entity on one side",
        where=source,
        hint=f"morphogen data split {source} --repair",
    )


def _crossing(groups: Sequence[int], splits: Sequence[str]) -> dict[int, tuple[int, int]]:
    """Group -> its first training and its first test item, for groups that have both."""
    first: dict[int, dict[str, int]] = {}
    for number, (group, side) in enumerate(zip(groups, splits, strict=True)):
        first.setdefault(group, {}).setdefault(side, number)
    return {
        group: (sides["train"], sides["test"])
        for group, sides in first.items()
        if "train" in sides and "test" in sides
    }


def check_leaks(scan: Scan, source: str) -> None:
    """Raise `DataError` naming both files when a test item has a twin in the training split."""
    crossing = _crossing(scan.groups(entities_of(scan, source)), scan.splits)
    if crossing:
        raise leak(scan, crossing, source)


def entities_of(scan: Scan, source: str) -> list[str | None] | None:
    """What each item belongs to, by the column or pattern `scan.group_by`; None without one."""
    by = scan.group_by
    if by is None:
        return None
    columns = {name for tags in scan.tags for name in tags}
    if by in columns:
        return [tags.get(by) or None for tags in scan.tags]
    if by == "label":
        return [None if label is None else str(label) for label in scan.labels]
    try:
        pattern = re.compile(by)
    except re.error as error:
        raise DataError(f"not a regular expression: {error}", found=by, where=source) from error
    found: list[str | None] = []
    for name in scan.names:
        match = pattern.search(name)
        found.append(match.group(1 if pattern.groups else 0) if match else None)
    if not any(found):
        raise DataError(
            f"nothing to group by: no column and no file name is like {by!r}."
            + did_you_mean(by, columns),
            found=f"columns {', '.join(sorted(columns)) or 'none'}; names such as {scan.names[0]}",
            expected="a column of the table, or a regular expression such as '^([^_]+)_'",
            where=source,
        )
    return found


def splits_path(source: Path | str) -> Path:
    """Where the division of a source is kept."""
    path = Path(source)
    if not path.exists():
        raise DataError(
            "the division of this source has no place to be kept",
            found=str(source),
            expected="a folder or a file",
            hint="save the data in a folder first",
        )
    return path / SPLITS_FILE if path.is_dir() else path.with_name(f"{path.name}.{SPLITS_FILE}")


def follow_splits_file(scan: Scan, report: Report) -> None:
    """Put the splits that a file beside the data names in the place of the source's own."""
    source = Path(report.source)
    if "://" in report.source or not source.exists() or not splits_path(source).is_file():
        return
    path = splits_path(source)
    with path.open(newline="", encoding="utf-8") as stream:
        table = csv.DictReader(stream)
        if not {"file", "split"} <= set(table.fieldnames or ()):
            raise DataError(
                "not a table of splits",
                found=", ".join(table.fieldnames or ()) or "an empty file",
                expected=", ".join(COLUMNS),
                where=str(path),
                hint=f"morphogen data split {source}",
            )
        sides = {row["file"]: row["split"] for row in table}
    wrong = next((side for side in sides.values() if side not in ("train", "test")), None)
    if wrong is not None:
        raise DataError(
            "there is no such split", found=wrong, expected="train or test", where=str(path)
        )
    new = [name for name in scan.names if name not in sides]
    scan.own = [sides.get(name) for name in scan.names]
    if new:
        listed = ", ".join(new[:3]) + (", ..." if len(new) > 3 else "")
        reason = f"{len(new):,} items have no row in it and go to the training split: {listed}"
        report.problems.append(Problem(path.name, reason, f"morphogen data split {source}"))


def _table(scan: Scan, groups: Sequence[int]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(zip(scan.names, scan.splits, groups, strict=True))
    return text.getvalue()
