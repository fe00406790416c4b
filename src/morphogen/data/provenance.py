"""Where items come from: which were made by a model, and are therefore held out of training.

An item counts as synthetic when its tags say so (a column `synthetic` of the table beside the
data, a mark or a credential inside the file or beside it), or when its fingerprint is in the ledger
of what was generated here, even after it was re-encoded or slightly cropped, and it was not read
here before. Models trained on the output of models lose the tails of the distribution (Shumailov et
al. 2024), and scores against such data mean little.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from morphogen.core import discover
from morphogen.core.codec import CanFingerprint, Problem, Report
from morphogen.core.ledger import Ledger
from morphogen.data.fingerprints import Fingerprints
from morphogen.data.originals import Made, Originals
from morphogen.data.scan import Scan

REFUSED = {"no", "refused", "withdrawn", "false", "0"}
NO = {"", "0", "no", "false", "n", "none", "real"}
SURER = 1 / 3  # of the way from "the same" to identical: whose data it is weighs more than a copy
CLOCK = 2.0  # seconds by which the times of files may be off
FIX = (
    "leave it out; if it is yours, write synthetic,no for it into tags.csv; to train on all such: "
    "--set modality.synthetic=include"
)


def hold_out(scan: Scan, report: Report, codec: object) -> None:
    """Leave synthetic items out of both splits, each with a problem; or say that they are in."""
    if tagged := {tag: dict(each.most_common()) for tag, each in scan.told.items() if each}:
        report.facts["tags"] = tagged
    for number in scan.tags.where(lambda tags: tags.get("consent", "").lower() in REFUSED):
        scan.splits[number] = "held out"
        reason = f"consent: {scan.tags[number]['consent']}"
        fix = "delete the item, or correct the tag"
        report.problems.append(Problem(scan.names[number], reason, fix, field="consent"))
    synthetic = scan.tags.where(lambda tags: tags.get("synthetic", "").lower() not in NO)
    found = {number: f"it is synthetic: {_said(scan.tags[number])}" for number in synthetic}
    if isinstance(codec, CanFingerprint) and Path(report.source).exists():
        originals = Originals.of(discover.name_of(type(codec)))
        recognised = _recognised(scan, report.source, originals)
        made = [*found, *recognised]
        for number, reason in recognised.items():
            if "synthetic" not in scan.tags[number]:  # a table that says "no" has the last word
                found[number] = reason
        originals.note(np.delete(scan.digests.words, made, axis=0), scan.made.ledger)
    if not found:
        return
    if scan.synthetic == "include":
        report.facts["synthetic"] = f"{len(found):,} synthetic items are used, as asked"
        return
    report.facts["synthetic"] = f"{len(found):,} synthetic items are held out"
    for number, reason in found.items():
        scan.splits[number] = "held out"
        report.problems.append(Problem(scan.names[number], reason, FIX, field="synthetic"))


def made_before(codec: object, source: str) -> Made:
    """What was generated before the source was last changed: all that it can hold.

    Arrays in memory have no such time, and are not searched: to take every fingerprint of every
    array would make loading slow for the sake of few.
    """
    path = Path(source)
    if not isinstance(codec, CanFingerprint) or not path.exists():
        return Made()
    ledger = Ledger.of(discover.name_of(type(codec)))
    size, entries = ledger.size, ledger.read()
    if not entries:
        return Made(ledger=size)
    newest = _newest(path, max(entry.time for entry in entries)) + CLOCK
    entries = [entry for entry in entries if entry.time <= newest]
    originals = Originals.of(discover.name_of(type(codec)))
    return Made(entries, size, originals.compared_with(entries))


def _newest(path: Path, enough: float) -> float:
    """When the newest file of a source was last changed, or a time that is `enough`."""
    newest = path.stat().st_mtime if path.is_file() else 0.0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                newest = max(newest, os.stat(os.path.join(folder, name)).st_mtime)
            if newest > enough:
                return newest
    return newest


def _recognised(scan: Scan, source: str, originals: Originals) -> dict[int, str]:
    """Items whose fingerprint, or that of the item they are exact copies of, is in the ledger.

    A file that was last changed before an item was generated does not hold that item, nor is what
    was read before then that item: so data that stays as it is stays as it is read, whatever is
    generated from it, and an original is not taken for the copy that a model made of it.
    """
    prints, entries = scan.prints, scan.made.entries
    if not entries or prints is None or prints.codec is None or not len(prints):
        return {}
    changed = _times(scan, source, prints.numbers)
    made_until = {  # when each item was made, at the latest
        number: min(time + CLOCK, originals.times.get(scan.digests[number], math.inf))
        for number, time in zip(prints.numbers, changed, strict=True)
    }
    since = min(entry.time for entry in entries)
    recent = Fingerprints(prints.codec)
    for number, print_ in zip(prints.numbers, prints.prints, strict=True):
        if made_until[number] >= since:
            recent.add(number, print_)
    made = Fingerprints(prints.codec)
    for number, entry in enumerate(entries):
        made.add(number, entry.fingerprint)
    same_from = prints.codec.same_from
    surer = same_from + SURER * (1 - same_from)
    of_first = {
        i: entries[j].about
        for i, j, _ in recent.pairs_with(made, same_from=surer)
        if made_until[i] >= entries[j].time
    }
    if not of_first:
        return {}
    by_digest = {scan.digests[i]: about for i, about in of_first.items()}
    return {
        number: f"it is synthetic: recognised as generated by {by_digest[digest]}"
        for number, digest in enumerate(scan.digests)
        if digest in by_digest
    }


def _times(scan: Scan, source: str, numbers: Sequence[int]) -> list[float]:
    """When the files that hold these items were last changed."""
    path = Path(source)
    files = [path] if path.is_file() else [each for each in path.iterdir() if each.is_file()]
    newest = max((file.stat().st_mtime for file in files), default=math.inf)
    times = []
    for number in numbers:
        try:
            times.append(os.stat(os.path.join(source, scan.names[number])).st_mtime)
        except OSError:  # a row of a table, an array or an archive
            times.append(newest)
    return times


def _said(tags: dict[str, str]) -> str:
    by = tags.get("generator")
    return f"its tags say so ({by})" if by else "its tags say so"
