"""The division that a source was given: splits.csv beside it, entities, and what would leak.

`morphogen data split` writes the file; from then on `load` follows it.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from morphogen.core.codec import SPLITS_FILE, Problem, Report
from morphogen.core.errors import DataError, did_you_mean
from morphogen.core.visible import in_shell
from morphogen.data.names import Repeated
from morphogen.data.neighbours import members
from morphogen.data.scan import Scan

COLUMNS = ("file", "split", "group")
MOST_PATTERN, PATTERN_SECONDS = 500, 10  # characters of a pattern to group by; its time, in all


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
        hint=f"morphogen data split {in_shell(source)} --repair",
    )


def crossings(groups: Sequence[int], splits: Sequence[str]) -> dict[int, tuple[int, int]]:
    """Group -> its first training and its first test item, for groups that have both."""
    found = {}
    for group in members(groups):
        sides = [splits[number] for number in group]
        if "train" in sides and "test" in sides:
            first = group[sides.index("train")], group[sides.index("test")]
            found[groups[group[0]]] = first
    return found


def check_leaks(scan: Scan, source: str) -> None:
    """Raise `DataError` naming both files when a test item has a twin in the training split."""
    crossing = crossings(scan.groups(entities_of(scan, source)), scan.splits)
    if crossing:
        raise leak(scan, crossing, source)


def entities_of(scan: Scan, source: str) -> Repeated | None:
    """What each item belongs to, by the column or pattern `scan.group_by`; None without one."""
    by = scan.group_by
    if by is None:
        return None
    if by in scan.columns:
        return Repeated.of(tags.get(by) or None for tags in scan.tags)
    if by == "label":
        return Repeated.of(None if label is None else str(label) for label in scan.labels)
    found = Repeated.of(_matched(by, scan.names, source))
    if not any(found.kinds):
        raise DataError(
            f"nothing to group by: no column and no file name is like {by!r}."
            + did_you_mean(by, scan.columns),
            found=f"columns {', '.join(sorted(scan.columns)) or 'none'}; "
            f"names such as {scan.names[0]}",
            expected="a column of the table, or a regular expression such as '^([^_]+)_'",
            where=source,
        )
    return found


def _matched(by: str, names: Sequence[str], source: str) -> Iterator[str | None]:
    """What a pattern finds in each name, its first group where it has one. A pattern may come with
    somebody else's bundle, and some would search for years: it has `PATTERN_SECONDS` in all."""
    import regex

    begun = time.monotonic()
    try:
        if len(by) > MOST_PATTERN:
            raise regex.error(f"it has {len(by):,} characters, and may have {MOST_PATTERN}")
        pattern = regex.compile(by)
        for name in names:
            left = max(begun + PATTERN_SECONDS - time.monotonic(), 1e-3)
            match = pattern.search(name, timeout=left)
            yield match.group(1 if pattern.groups else 0) if match else None
    except regex.error as error:
        message = f"not a regular expression: {error}"
        raise DataError(message, found=by[:MOST_PATTERN], where=source) from error
    except TimeoutError as error:
        raise DataError(
            "the pattern to group by takes too long",
            found=f"{by!r}: not through {len(names):,} names in {PATTERN_SECONDS} s",
            expected="no repeats within repeats",
            where=source,
            hint="--set modality.group_by=PATTERN",
        ) from error


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
                hint=f"morphogen data split {in_shell(source)}",
            )
        sides = {row["file"]: row["split"] for row in table}
    wrong = next((side for side in sides.values() if side not in ("train", "test")), None)
    if wrong is not None:
        raise DataError(
            "there is no such split", found=wrong, expected="train or test", where=str(path)
        )
    new = [name for name in scan.names if name not in sides]
    scan.own = Repeated.of(sides.get(name) for name in scan.names)
    if new:
        listed = ", ".join(new[:3]) + (", ..." if len(new) > 3 else "")
        reason = f"{len(new):,} items have no row in it and go to the training split: {listed}"
        fix = f"morphogen data split {in_shell(source)}"
        report.problems.append(Problem(path.name, reason, fix))
