"""The road from a source to stores: see it whole, fit the codec, encode split by split.

The source is read item by item: once to see it whole (names, splits, content hashes), once to fit
the codec on the training split, once to encode. What was decoded is kept between the readings as
long as it is small; else it is read again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from morphogen.core.codec import Codec, Item, Problem, Report
from morphogen.core.encoded import Encoded, rows, stacked
from morphogen.core.errors import DataError, MorphogenError
from morphogen.core.spec import Spec, TensorSpec
from morphogen.data.conditions import fit_conditions, noting
from morphogen.data.division import entities_of, follow_splits_file
from morphogen.data.modality import build_codec, find_modality
from morphogen.data.provenance import entries_for, hold_out
from morphogen.data.scan import Scan
from morphogen.data.store import CHUNK, MemoryStore, Store, compact, expand, no_items
from morphogen.data.views import Suits, choose_view

KEEP_BYTES = 1 << 30  # raw items kept in memory between the readings, at most
FEW_ITEMS = 32  # fewer training items than this are learned by heart
Read = Callable[[Codec, Report], Iterator[Item]]


@dataclass
class Encoding:
    """What a source became: stores by split, and how often the training split has each class."""

    codec: Codec
    train: Store
    test: Store
    priors: dict[str, list[float]] = field(default_factory=dict)
    around: Codec | None = None  # the codec of the view, where that is one around `codec`


def read_scan(
    source: Path | str,
    modality: str | None,
    options: Mapping[str, Any],
    report: Report,
    scan: Scan,
) -> Codec:
    """See a source whole, without encoding it; returns the codec that read it, not fitted."""
    codec = build_codec(modality or find_modality(source), options)
    see(codec, reader(source), report, scan)
    return codec


def reader(source: Path | str) -> Read:
    """How a codec comes to the items of a source that lies on disk."""
    return lambda codec, report: iter(codec.read(source, report))


def see(codec: Codec, read: Read, report: Report, scan: Scan) -> None:
    """Read all of a source into `scan`. Raises `DataError` when too little of it can be used."""
    scan.see(read(codec, report), codec, KEEP_BYTES)
    _check_enough(len(scan.names), report)
    follow_splits_file(scan, report)


def encode(
    codec: Codec,
    read: Read,
    report: Report,
    scan: Scan,
    *,
    fitted: bool = False,
    view: str | None = None,
    suits: Suits | None = None,
) -> Encoding:
    """All of the road, for a codec that is `fitted` or is to be, in the `view` asked for or the
    first that `suits`."""
    scan.generated = entries_for(codec, report.source)
    see(codec, read, report, scan)
    scan.assign(entities_of(scan, report.source))
    hold_out(scan, report, codec)
    report.problems += scan.leaks()

    def items(split: str | None = None) -> Iterator[Item]:
        again = scan.items if scan.items is not None else read(codec, Report(report.source))
        pairs = zip(again, scan.splits, strict=True)
        return (item for item, own in pairs if split in (None, own))

    if not fitted:
        said: list[Mapping[str, Any]] = []
        codec.fit(noting(items("train"), said))
        fit_conditions(codec, said, report)
    chosen = choose_view(codec, view, suits)
    codec = chosen.inner or chosen
    report.facts |= getattr(codec, "facts", {})
    stores = {
        name: _encode(codec, items(name), scan.splits.count(name), report)
        for name in ("train", "test")
    }
    _check_enough(sum(map(len, stores.values())), report)
    _note_split(scan, stores, report)
    around = None if chosen is codec else chosen
    found = Encoding(codec, stores["train"], stores["test"], around=around)
    for name, spec in codec.conditions.items():
        if spec.kind == "token" and spec.shape == ():
            counts = class_counts(found.train, name, spec)
            found.priors[name] = [count / max(sum(counts), 1) for count in counts]
            _note_rare_classes(codec.class_names(name), counts, report)
    return found


def _encode(codec: Codec, items: Iterator[Item], count: int, report: Report) -> Store:
    """Encode in chunks into storage set aside beforehand; items that do not fit become problems."""
    spec: Spec = codec.spec
    x = no_items(spec, count)
    cond: dict[str, list[Encoded]] = {name: [] for name in codec.conditions}
    names: list[str] = []
    while chunk := list(itertools.islice(items, CHUNK)):
        usable = []
        for item in chunk:
            encoded = _encode_conditions(codec, item, report)
            if encoded is not None:
                usable.append(item)
                for name, value in encoded.items():
                    cond[name].append(value)
        if usable:
            here = slice(len(names), len(names) + len(usable))
            _put(x, here, compact(codec.encode_many(usable), spec))
            names += [item.name for item in usable]
    known = {
        name: stacked(values)
        if values
        else expand(no_items(codec.conditions[name]), codec.conditions[name])
        for name, values in cond.items()
    }
    return MemoryStore(spec, rows(x, slice(0, len(names))), known, names)


def _put(x: Any, here: slice, values: Any) -> None:
    """Copy stored items to their place."""
    for name in x if isinstance(x, dict) else ():
        x[name][here] = values[name]
    if isinstance(x, Tensor):
        x[here] = values


def _encode_conditions(codec: Codec, item: Item, report: Report) -> dict[str, Encoded] | None:
    """The item's conditions, or None with a problem when one is absent or unknown."""
    encoded: dict[str, Encoded] = {}
    for name in codec.conditions:
        if name not in item.cond:
            reason, fix = f"it has no {name}, as most others do", f"give it a {name} or move it out"
            report.problems.append(Problem(item.name, reason, fix, fatal=True))
            return None
        try:
            encoded[name] = codec.encode_condition(name, item.cond[name])
        except MorphogenError as error:
            reason = f"{error.message} (in the training split)"
            fix = f"add training items with this {name}"
            report.problems.append(Problem(item.name, reason, fix, fatal=True))
            return None
    return encoded


def _check_enough(usable: int, report: Report) -> None:
    """Raise when fewer than two items, or fewer than half, are left."""
    skipped = report.skipped
    if usable >= 2 and usable >= len(skipped):
        return
    few = usable < 2
    lines = [f"{problem.name}: {problem.reason}" for problem in skipped[:3]]
    more = len(skipped) - len(lines)
    raise DataError(
        "too little of the source can be used" if few else "most of the source cannot be used",
        found="; ".join(
            [f"{usable:,} usable items, {len(skipped):,} skipped"]
            + lines
            + ([f"and {more:,} more"] if more > 0 else [])
        ),
        expected="at least 2 items" if few else "at least half of the items",
        where=report.source,
        hint=f"morphogen inspect {report.source}",
    )


def _note_split(scan: Scan, stores: Mapping[str, Store], report: Report) -> None:
    """Say where the test split comes from, and whether there is enough to learn from."""
    num_train, num_test = len(stores["train"]), len(stores["test"])
    counts = f"{num_train:,} train, {num_test:,} test"
    if any(own in ("test", "validation") for own in scan.own):
        joined = "test" in scan.own and "validation" in scan.own
        how = "the source's own" + (", its validation part joined to train" if joined else "")
    elif num_test:
        how = "held out by content hash"
    else:
        how = "too few items to hold any out"
    report.facts["split"] = f"{counts} ({how})"
    if num_train < FEW_ITEMS:
        reason = f"{num_train:,} training items are too few to learn from: a model will copy them"
        fix = f"collect at least {FEW_ITEMS}, better thousands"
        report.problems.append(Problem(report.source, reason, fix))


def _note_rare_classes(names: list[str], counts: list[int], report: Report) -> None:
    for name, count in zip(names, counts, strict=False):
        if count == 1:
            reason = "the class has one training item"
            fix = "add items to it, join it to another class, or remove it"
            report.problems.append(Problem(name, reason, fix))


def class_counts(store: Store, name: str, spec: TensorSpec) -> list[int]:
    """How many items of a split each class has."""
    known = store.cond[name][store.cond[name] >= 0]  # -1: absent
    counts: list[int] = torch.bincount(known, minlength=spec.vocab_size or 1).tolist()
    return counts
