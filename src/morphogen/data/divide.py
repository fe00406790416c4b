"""Splits that do not leak: near-duplicates and the items of one entity stay on one side.

`split` decides for every item and writes `splits.csv` into the folder of data, or `NAME.splits.csv`
beside a file. From then on `load` follows it, so that training and evaluation hold out the same.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from morphogen.core.codec import Problem, Report
from morphogen.core.storage import write_text
from morphogen.data.division import COLUMNS, crossings, entities_of, leak, splits_path
from morphogen.data.encoding import read_scan
from morphogen.data.names import Repeated
from morphogen.data.neighbours import members
from morphogen.data.scan import EVERY, Scan


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
    file_names: str | None = None,
    **codec_options: Any,
) -> SplitPlan:
    """Divide `source` so that nothing leaks, and write the division beside the data.

    `by` names what must stay together besides copies and near-duplicates: a column of the table, or
    a regular expression whose first group is read off file names. Where the source has its own
    splits and an item of the test split has a twin in the training split, raises `DataError` naming
    both; `repair` takes such training items, and those of the same entity, over to the test split.
    """
    scan = Scan(near=True, most_compared=EVERY, group_by=by, file_names=file_names)
    report = Report(str(source))
    read_scan(source, modality, codec_options, report, scan)
    entities = entities_of(scan, str(source))
    scan.assign(entities)
    groups = scan.groups(entities)
    own = Repeated.of(scan.splits)
    if any(each in ("test", "validation") for each in scan.own):
        crossing = crossings(groups, scan.splits)
        if crossing and not repair:
            raise leak(scan, crossing, str(source))
        for number, group in enumerate(groups):
            if group in crossing:
                scan.splits[number] = "test"
    sizes = [len(group) for group in members(groups)]
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


def _table(scan: Scan, groups: Sequence[int]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(zip(scan.names, scan.splits, groups, strict=True))
    return text.getvalue()
