"""The road from a source to stores: see it whole, fit the codec, encode split by split.

The source is read item by item: once to see it whole (names, splits, content hashes), once to fit
the codec on the training split, once to encode. What was decoded is kept between the readings as
long as it is small; else it is read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import morphogen
from morphogen.core.codec import Codec, Item, Problem, Report
from morphogen.core.codec_storage import codec_tensors, describe_codec
from morphogen.core.encoded import Encoded, joined
from morphogen.core.errors import DataError
from morphogen.core.following import BegunBefore, ComesWith
from morphogen.core.storage import cache_folder, lock
from morphogen.core.visible import in_shell
from morphogen.data.conditions import (
    class_counts,
    encode_all_said,
    fit_conditions,
    priors_of,
)
from morphogen.data.disk import check_room
from morphogen.data.division import entities_of, follow_splits_file
from morphogen.data.file_names import named
from morphogen.data.filling import InMemory, OnDisk, chunks, of_split
from morphogen.data.modality import Read, build_codec, find_modality
from morphogen.data.names import Names, Repeated
from morphogen.data.noting import noting
from morphogen.data.packing import Packed, PackedFilling, Unpacked, flagged
from morphogen.data.pairs import Pairs
from morphogen.data.parallel import in_order
from morphogen.data.progress import told
from morphogen.data.provenance import hold_out, made_before
from morphogen.data.scan import Scan
from morphogen.data.store import (
    CHUNK,
    Begun,
    Store,
    compact,
    expand,
    item_bytes,
    no_items,
    storage_dtype,
)
from morphogen.data.turned import turned
from morphogen.data.views import Suits, choose_view
from morphogen.data.windows import StreamFilling, check_long_enough
from morphogen.sources import RecordBatch, RecordBatches

KEEP_BYTES = 1 << 29  # raw items kept in memory between the readings, at most
MOST_IN_MEMORY = 1 << 30  # bytes of an encoded split kept in memory; a larger one is on disk
STORES = 2  # the form of stores on disk: another number where the files are others
MANY_RARE = 20  # classes of one item, from which they are told together
FEW_ITEMS = 32  # fewer training items than this are learned by heart


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
    codec = build_codec(modality or find_modality(source, report), options)
    see(codec, _as_asked(reader(source), scan), report, scan)
    return codec


def reader(source: Path | str) -> Read:
    """How a codec comes to the items of a source that lies on disk."""
    return lambda codec, report: iter(codec.read(source, report))


def _as_asked(read: Read, scan: Scan) -> Read:
    return turned(named(read, scan.file_names), scan.given)


def see(codec: Codec, read: Read, report: Report, scan: Scan) -> None:
    """Read all of a source into `scan`. Raises `DataError` when too little of it can be used."""
    scan.see(told(read(codec, report), "reading"), codec, KEEP_BYTES)
    _check_enough(len(scan.names), report)
    if any(scan.halves.kinds):
        files = len(scan.names) - scan.halves.count(None)
        report.facts["pairs"] = (
            f"{files:,} of {len(scan.names):,} items have a file, which is learned with "
            "--condition image, or whatever it is"
        )
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
    conditions: str | None = None,
) -> Encoding:
    """All of the road, for a codec that is `fitted` or is to be, in the `view` asked for or the
    first that `suits`, with the `conditions` named."""
    read = _as_asked(read, scan)
    scan.made = made_before(codec, report.source)
    see(codec, read, report, scan)
    scan.assign(entities_of(scan, report.source))
    hold_out(scan, report, codec)
    leaks = scan.leaks()
    report.problems += leaks
    report.num_leaks = len(leaks)

    def items(split: str) -> Iterator[Item]:
        again = scan.again()
        again = read(codec, Report(report.source)) if again is None else again
        return of_split(again, scan.splits, split)

    if not fitted:
        _check_trainable(scan, report)
        alike = conditions is None and not isinstance(codec, ComesWith)
        said: Any = Repeated() if alike else []
        train = told(items("train"), "measuring", scan.splits.count("train"))
        codec.fit(noting(train, said, conditions, codec))
        fit_conditions(codec, said, report, conditions)
    chosen = choose_view(codec, view, suits)
    codec = chosen.inner or chosen
    report.facts |= getattr(codec, "facts", {})
    stores = {name: _store(codec, scan, name, items(name), report) for name in ("train", "test")}
    if getattr(codec, "packs", False):
        _check_enough(stores["train"].num_documents, report)  # type: ignore[attr-defined]
    elif getattr(codec, "windows", None) is None:
        _check_enough(sum(len(store) for store in stores.values()), report)
    else:
        check_long_enough(stores["train"], report.source)
    _note_split(scan, stores, report)
    if isinstance(codec, BegunBefore):
        stores["test"] = Begun(stores["test"], codec.judged)
    around = None if chosen is codec else chosen
    found = Encoding(codec, stores["train"], stores["test"], around=around)
    found.priors = priors_of(codec, found.train.cond)
    for name, spec in codec.conditions.items():
        if names := codec.class_names(name):
            _note_rare_classes(names, class_counts(found.train.cond[name], spec), report)
    return found


def _key(codec: Codec, scan: Scan) -> str:
    """What tells the stores of this source, as this codec encodes it, from others."""
    about = {"codec": describe_codec(codec), "by": [STORES, morphogen.__version__]}
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(codec_tensors(codec).items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    digest.update(scan.digests.data)
    digest.update(scan.said.digest() + json.dumps(scan.splits.kinds).encode())
    digest.update(scan.splits.code)
    return digest.hexdigest()


def _store(codec: Codec, scan: Scan, name: str, items: Iterator[Item], report: Report) -> Store:
    """Encode the split called `name` into the kind of store that it needs."""
    spec, count = codec.spec, scan.splits.count(name)
    length = getattr(codec, "windows", None)
    if length is None:
        needed = count * item_bytes(spec)
    else:
        sizes = (size for size, own in zip(scan.sizes, scan.splits, strict=True) if own == name)
        needed = sum(sizes) * storage_dtype(spec).itemsize
    if needed <= MOST_IN_MEMORY:
        return _filled(codec, _room(codec, count, None), items, count, report)
    folder = cache_folder() / "stores" / _key(codec, scan) / name
    check_room(folder, spec, count if length is None else needed // item_bytes(spec))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as held:
        lock(held.fileno())  # two runs on the same data: the second finds what the first encoded
        return _filled(codec, _room(codec, count, folder), items, count, report)


def recoded(
    store: Store, spec: Any, recode: Callable[[Iterator[Any]], Iterator[Any]], name: str
) -> Store:
    """The items of a store in another encoding, batch by batch; on disk if need be."""
    if len(store) * item_bytes(spec) <= MOST_IN_MEMORY:
        room: Any = InMemory(spec, len(store))
    else:
        key = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
        room = OnDisk(spec, cache_folder() / "stores" / key)
    left = (
        store.batch(index).x for index in torch.split(torch.arange(room.whole, len(store)), CHUNK)
    )
    for x in recode(left) if room.whole < len(store) else ():
        room.add(compact(x, spec))
    found: Store = room.finish(store.cond, store.names)
    return found


def _room(codec: Codec, count: int, folder: Path | None) -> Any:
    """What a split is put into."""
    if getattr(codec, "packs", False):
        packing: Any = codec  # says how: see `data.packing`
        alone = Unpacked if packing.alone else Packed
        kind = Pairs if getattr(codec, "pairs", False) else alone
        return PackedFilling(packing.spec, folder, packing.gap, kind)
    if getattr(codec, "windows", None) is not None:
        return StreamFilling(codec.spec, folder)
    return InMemory(codec.spec, count) if folder is None else OnDisk(codec.spec, folder)


def _filled(codec: Codec, room: Any, items: Iterator[Item], count: int, report: Report) -> Store:
    """Encode in chunks, several at once, and put them into `room` in order. Items that do not fit
    become problems."""
    windows, packs = getattr(codec, "windows", None) is not None, getattr(codec, "packs", False)
    cond: dict[str, list[Encoded]] = {name: [] for name in codec.conditions}
    names = Names()

    def chosen() -> Iterator[Sequence[Item]]:
        for chunk in chunks(told(items, "encoding", count)):
            here, said = encode_all_said(codec, chunk, report)
            for name, known in said.items():
                cond[name].append(known)
            done = room.whole - len(names)  # of these, so many were encoded already
            if isinstance(here, RecordBatch):
                names.extend(here.stem, here.numbers)
            else:
                for item in here:
                    names.append(item.name)
            if done < len(here):
                yield here[done:] if done > 0 else here

    def encoded(chunk: Sequence[Item]) -> Any:
        if packs:
            packing: Any = codec
            return [flagged(*packing.encode_learned(item)) for item in chunk]
        if windows:
            streams = (codec.encode_stream(item) for item in chunk)  # type: ignore[attr-defined]
            return [each.to(storage_dtype(codec.spec)) for each in streams]
        return compact(codec.encode_many(chunk), codec.spec)

    # Of records by columns little is done at once: threads would only wait for one another.
    together = isinstance(items, RecordBatches)
    for values in map(encoded, chosen()) if together else in_order(encoded, chosen()):
        room.add(values)
    known = {
        name: joined(cond[name]) if cond[name] else expand(no_items(each), each)
        for name, each in codec.conditions.items()
    }
    store: Store = room.finish(known, names)
    return store


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
        hint=f"morphogen inspect {in_shell(report.source)}",
    )


def _check_trainable(scan: Scan, report: Report) -> None:
    """Raise where the source says of all its items that they are for testing."""
    if not scan.splits.count("train"):
        raise DataError(
            "there is nothing to train on: all items are of the source's own test split",
            found=f"{scan.splits.count('test'):,} test items, no training items",
            where=report.source,
            hint="name a source that holds the training part too; or rename files and folders that "
            "are called test, t10k or val, and a tenth is held out",
        )


def _note_split(scan: Scan, stores: Mapping[str, Store], report: Report) -> None:
    """Say where the test split comes from, and whether there is enough to learn from."""
    num_train, num_test = (
        getattr(stores[name], "num_documents", len(stores[name])) for name in ("train", "test")
    )
    counts = f"{num_train:,} train, {num_test:,} test"
    if "test" in scan.own or "validation" in scan.own:
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
    """Say which classes have one item: each for itself, or, where they are many, once."""
    rare = [name for name, count in zip(names, counts, strict=False) if count == 1]
    fix = "add items to it, join it to another class, or remove it"
    if len(rare) > MANY_RARE:
        reason = f"{len(rare):,} classes have one training item: {', '.join(rare[:3])}, ..."
        each = "add items to each, join it to another class, or remove it"
        report.problems.append(Problem(report.source, reason, each))
        return
    for name in rare:
        report.problems.append(Problem(name, "the class has one training item", fix))
