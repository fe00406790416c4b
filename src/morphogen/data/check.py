"""Every defect of a source: what reading, splitting and comparing its items finds wrong."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from morphogen.core.codec import CanFindDefects, CanFingerprint, CanListTexts, Codec, Problem
from morphogen.core.errors import DataError
from morphogen.core.visible import in_shell
from morphogen.data.division import check_leaks
from morphogen.data.duplicates import groups_of
from morphogen.data.inspect import Inspection, inspect_with
from morphogen.data.modality import build_codec
from morphogen.data.personal import INSTALL, SCOPE, Finder
from morphogen.data.scan import Scan

MOST_COMPARED = 20_000  # items among which a check looks for near-duplicates
CLOSE = 0.8  # ratio of two class names from which one may be the other misspelt
RARE = 5  # a misspelt class has this many items at most, and a tenth of the other's
SAME_CAPTION = 3  # items with one caption, from which it is worth saying


def check(
    source: Path | str,
    modality: str | None = None,
    *,
    group_by: str | None = None,
    file_names: str | None = None,
    **codec_options: Any,
) -> Inspection:
    """Inspect `source`, compare its items with one another, and look into its files.

    The answer's `error` is set when nothing can be trained on it, or when a test item has a twin,
    or one of the same entity (`group_by`), in the training split: numbers from it would be wrong.
    """
    scan = Scan(near=True, most_compared=MOST_COMPARED, group_by=group_by, file_names=file_names)
    found = inspect_with(scan, source, modality, codec_options)
    codec = build_codec(found.facts["modality"], codec_options)
    problems = list(found.problems)
    if scan.splits:  # it could be read to the end
        problems += _near_copies(scan)
        problems += _labels(scan)
        problems += _captions(scan)
        if len(scan.names) > MOST_COMPARED and isinstance(codec, CanFingerprint):
            reason = f"near-duplicates are not looked for among more than {MOST_COMPARED:,} items"
            fix = f"morphogen data dedupe {in_shell(source)}"
            problems.append(Problem(str(source), reason, fix))
    problems += _mixtures(found)
    if isinstance(codec, CanFindDefects):
        problems += codec.defects(source)
    _personal(codec, source, found, problems)
    found.problems = list({(each.name, each.reason): each for each in problems}.values())
    if found.error is None and scan.splits:
        try:
            check_leaks(scan, str(source))
        except DataError as error:
            found.error = str(error)
            found.next_command = str(error.hint)
    return found


def _near_copies(scan: Scan) -> Iterator[Problem]:
    """Near-duplicates on one side of the split, and copies whose labels contradict."""
    groups = groups_of(scan)
    named = {name for group in groups for name in (group.keep, *group.leave_out)}
    number = {name: i for i, name in enumerate(scan.names) if name in named}
    for group in groups:
        listed = ", ".join(group.leave_out[:3]) + (", ..." if len(group.leave_out) > 3 else "")
        sides = {scan.splits[number[name]] for name in (group.keep, *group.leave_out)}
        if group.kind == "near" and len(sides) == 1:
            reason = f"nearly the same as {listed} (likeness {group.likeness:.3f})"
            yield Problem(group.keep, reason, "keep one: morphogen data dedupe")
        if group.labels:
            reason = f"copies of it have other labels ({', '.join(group.labels)}): {listed}"
            yield Problem(group.keep, reason, "correct the labels", field="label")


def _labels(scan: Scan) -> Iterator[Problem]:
    """Items without a label where most have one; class names that may be another one misspelt."""
    without = [name for name, label in zip(scan.names, scan.labels, strict=True) if label is None]
    if 2 * len(without) < len(scan.names):
        for name in without:
            fix = "give it a label or move it out; else it is learned as one of no class"
            yield Problem(name, "it has no label, as most others do", fix, field="label")
    counts = Counter(str(label) for label in scan.labels if label is not None)
    for name, count in counts.items():
        for other, many in counts.items():
            same = name.strip().casefold() == other.strip().casefold()
            alike = (
                difflib.SequenceMatcher(None, name.casefold(), other.casefold()).ratio() >= CLOSE
            )
            words = not name.isdecimal() and len(name) > 3
            rare = count <= min(RARE, many / 10)
            first = (many, other) > (count, name)
            if name != other and first and (same or (words and alike and rare)):
                item = scan.names[[str(label) for label in scan.labels].index(name)]
                reason = (
                    f"the class {name!r} ({count:,} items) may be {other!r} ({many:,}) misspelt"
                )
                yield Problem(item, reason, f"rename it to {other!r}, if it is", field="label")
                break


def _captions(scan: Scan) -> Iterator[Problem]:
    """One caption for several items, which teaches a model to ignore captions."""
    same: defaultdict[str, list[str]] = defaultdict(list)
    for name, caption in zip(scan.names, scan.captions, strict=True):
        if caption is not None:
            same[" ".join(str(caption).casefold().split())].append(name)
    for caption, names in same.items():
        if len(names) >= SAME_CAPTION and len(same) > 1:
            reason = f"{len(names):,} items have the caption {caption!r}: {', '.join(names[1:4])}"
            yield Problem(names[0], reason, "describe what tells them apart", field="caption")


def _personal(codec: Codec, source: Path | str, found: Inspection, problems: list[Problem]) -> None:
    """Add what personal data the texts hold to `problems`, cover it where facts and problems quote
    texts, and say in a line what was looked for."""
    if not isinstance(codec, CanListTexts):
        found.facts["personal_data"] = "not looked for: this modality lists no texts"
        return
    try:
        finder = Finder()
    except DataError:
        found.facts["personal_data"] = f"not looked for; to have it done: {INSTALL}"
        return
    for each in problems:
        each.reason = finder.redact(each.reason) if each.field else each.reason
    found.facts = _covered(found.facts, finder)
    counts: Counter[str] = Counter()
    problems += finder.problems(codec.texts(source), counts)
    total = counts.pop("", 0)
    fields = ", ".join(f"{number:,} in {field}" for field, number in counts.most_common())
    found.facts["personal_data"] = f"{fields or 'none'}, of {total:,} texts and names; {SCOPE}"


def _covered(fact: Any, finder: Finder) -> Any:
    """A fact without personal data: class names and tags are texts of the user's."""
    if isinstance(fact, dict):
        return {_covered(name, finder): _covered(value, finder) for name, value in fact.items()}
    return finder.redact(fact) if isinstance(fact, str) else fact


def _mixtures(found: Inspection) -> Iterator[Problem]:
    """Sizes, modes and depths that differ between the items of one source."""
    meaning = {
        "sizes": ("size", "they are resized to one: see `resized` in morphogen inspect"),
        "modes": ("mode", "convert them to one, or say --set modality.mode=RGB"),
        "depths": ("depth", "save them with one depth"),
    }
    for fact, (field, fix) in meaning.items():
        counts = found.facts.get(fact)
        if isinstance(counts, dict) and len(counts) > 1:
            common = sorted(counts.items(), key=lambda pair: -pair[1])
            listed = ", ".join(f"{number:,} {name}" for name, number in common[:4])
            more = f" and {len(common) - 4:,} more" if len(common) > 4 else ""
            yield Problem(found.source, f"mixed {fact}: {listed}{more}", fix, field=field)
    if "range" in found.facts:
        fix = "save values in [0, 1] or [-1, 1], or whole numbers in 0..255"
        yield Problem(found.source, f"unusual {found.facts['range']}", fix, field="values")
