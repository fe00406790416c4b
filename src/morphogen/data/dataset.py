"""From a source to encoded, split, hashed data: `load`.

The source is read item by item: once to see it whole (names, splits, content hashes), once to fit
the codec on the training split, once to encode. What was decoded is kept between the readings as
long as it is small; else it is read again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.codec import Codec, Item, Problem, Report
from morphogen.core.errors import DataError, MorphogenError
from morphogen.core.schema import check_options
from morphogen.core.spec import TensorSpec
from morphogen.data.canaries import Canaries, plant
from morphogen.data.conditions import fit_conditions, noting
from morphogen.data.division import entities_of, follow_splits_file
from morphogen.data.listing import listing
from morphogen.data.modality import build_codec, find_modality
from morphogen.data.provenance import entries_for, hold_out
from morphogen.data.scan import Scan
from morphogen.data.store import Split, compact, digest_splits, storage_dtype

CHUNK = 512  # items encoded at once
KEEP_BYTES = 1 << 30  # raw items kept in memory between the readings, at most
FEW_ITEMS = 32  # fewer training items than this are learned by heart
Read = Callable[[Codec, Report], Iterator[Item]]


@dataclass
class Data:
    """A source, encoded: what `train` and `evaluate` take."""

    codec: Codec
    train: Split
    test: Split
    report: Report
    source: str = ""
    digest: str = ""
    priors: dict[str, list[float]] = field(default_factory=dict)  # label -> class frequencies
    files: dict[str, str] = field(default_factory=dict)  # file -> hash of what was read from it
    options: dict[str, Any] = field(default_factory=dict)  # of `load`, other than the codec's
    canaries: Canaries | None = None  # planted in the training split, see `plant`

    @property
    def spec(self) -> TensorSpec:
        """What one encoded item looks like."""
        return self.codec.spec

    @property
    def conditions(self) -> dict[str, TensorSpec]:
        """What each named condition looks like."""
        known = self.codec.conditions
        return {name: spec for name, spec in known.items() if name in self.train.cond}

    @classmethod
    def from_tensors(
        cls,
        x: Any,
        labels: Any = None,
        *,
        test: Any = None,
        test_labels: Any = None,
        codec: Codec | None = None,
        group_by: str | None = None,
        synthetic: Literal["hold_out", "include"] = "hold_out",
        **options: Any,
    ) -> Data:
        """Pictures in memory: a NumPy array or tensor (N, H, W), (N, H, W, C) or (N, C, H, W).

        `options` are the image codec's; a fitted `codec` is used as it is; `group_by` and
        `synthetic` are those of `load`. Without `test`, a tenth is held out.
        """

        def read(codec: Codec, report: Report) -> Iterator[Item]:
            own = None if test is None else "train"
            parts = [(x, labels, own)] + ([] if test is None else [(test, test_labels, "test")])
            return codec.read_arrays(parts, report)  # type: ignore[attr-defined]

        scan = Scan(group_by=group_by, synthetic=synthetic)
        used = codec or build_codec("image", options)
        return _load(used, read, Report("array"), scan, codec is not None)

    def about(self) -> dict[str, Any]:
        """What a bundle records of the data it was trained on, as JSON."""
        source = str(Path(self.source).resolve()) if Path(self.source).exists() else self.source
        return {
            "source": source,
            "digest": self.digest,
            "options": self.options,
            "num_train": len(self.train),
            "num_test": len(self.test),
            "num_skipped": len(self.report.skipped),
            "tags": self.report.facts.get("tags", {}),
        }

    def through(self, codec: Any) -> Data:
        """The same items as latents of a trained model: `codec` is a `LatentCodec` around this
        data's codec, fitted or not. Raises `DataError` when its model is for other data."""
        if codec.inner.spec != self.spec:
            raise DataError(
                "the model whose latents are asked for was trained on other data",
                found=str(self.spec),
                expected=str(codec.inner.spec),
                where=self.source,
                hint="train it on this data, or read the data with the same size and mode",
            )
        train, test = (codec.latents(_batches(split)) for split in (self.train, self.test))
        if not codec.is_fitted:
            codec.measure(train)
        # The digest is the items' and the model's: latents differ in the last bit between machines.
        return replace(
            self,
            codec=codec,
            train=self.train.encoded_as(codec.spec, codec.standardised(train)),
            test=self.test.encoded_as(codec.spec, codec.standardised(test)),
            digest=f"{self.digest}-{codec.digest}",
            canaries=None,
        )

    def unconditional(self) -> Data:
        """The same items with nothing said of them: no labels, no captions."""
        train, test = (replace(split, cond={}) for split in (self.train, self.test))
        return replace(self, train=train, test=test, priors={})

    def facts(self) -> dict[str, Any]:
        """What there is to say about the data, as JSON."""
        return {
            "source": self.source,
            "modality": discover.name_of(type(self.codec)),
            "spec": str(self.spec),
            "conditions": {name: str(spec) for name, spec in self.conditions.items()},
            "num_train": len(self.train),
            "num_test": len(self.test),
            "num_skipped": len(self.report.skipped),
            "classes": {
                name: dict(
                    zip(
                        self.codec.class_names(name),
                        class_counts(self.train, name, spec),
                        strict=True,
                    )
                )
                for name, spec in self.conditions.items()
                if self.codec.class_names(name)
            },
            "digest": self.digest,
            **self.report.facts,
        }


def load(
    source: Any,
    modality: str | None = None,
    *,
    codec: Codec | None = None,
    group_by: str | None = None,  # what stays on one side: a column, or a pattern of file names
    synthetic: Literal["hold_out", "include"] = "hold_out",  # items that a model made
    canaries: int = 0,  # made-up items planted once, as many 4, 16 and 64 times
    **codec_options: Any,
) -> Data:
    """Read a folder, file, dataset name, array or tensor into encoded train and test splits.

    The modality is found by asking each codec; a fitted `codec` (a bundle's) is used as it is.
    Items that cannot be used are listed in `Data.report.problems`; raises `DataError` when fewer
    than two, or less than half, can be used. What `group_by` (a column of the table, or a regular
    expression on file names) calls the same stays on one side of the split. Items that a model made
    are held out, unless `synthetic` is "include". With `canaries`, so many items are made up and
    planted in the training split once, as many 4, 16 and 64 times (see `data.canaries`).
    """
    given = {"group_by": group_by, "synthetic": synthetic, "canaries": canaries}
    reading = check_options(load, given, "modality")  # settings come as text
    if (
        codec is not None and (inner := codec.inner) is not None
    ):  # a latent codec: read with the codec inside, then encode
        return load(source, codec=inner, **reading).through(codec)
    if num := reading.pop("canaries"):
        planted = plant(load(source, modality, codec=codec, **reading, **codec_options), num=num)
        return replace(planted, options=planted.options | {"canaries": num})
    if isinstance(source, (np.ndarray, Tensor)):
        return Data.from_tensors(source, codec=codec, **reading, **codec_options)
    scan = Scan(**reading)
    if codec is not None:
        find_modality(source)  # raises when there is nothing to read
        return _load(codec, _reader(source), Report(str(source)), scan, True)
    return load_into(source, modality, codec_options, Report(str(source)), scan)


def load_into(
    source: Path | str,
    modality: str | None,
    options: Mapping[str, Any],
    report: Report,
    scan: Scan,
) -> Data:
    """`load`, leaving in `report` and `scan` what was found even when it raises."""
    codec = build_codec(modality or find_modality(source), options)
    return _load(codec, _reader(source), report, scan)


def read_scan(
    source: Path | str,
    modality: str | None,
    options: Mapping[str, Any],
    report: Report,
    scan: Scan,
) -> Codec:
    """See a source whole, without encoding it; returns the codec that read it, not fitted."""
    codec = build_codec(modality or find_modality(source), options)
    _see(codec, _reader(source), report, scan)
    return codec


def _reader(source: Path | str) -> Read:
    """How a codec comes to the items of a source that lies on disk."""
    return lambda codec, report: iter(codec.read(source, report))


def _see(codec: Codec, read: Read, report: Report, scan: Scan) -> None:
    scan.see(read(codec, report), codec, KEEP_BYTES)
    _check_enough(len(scan.names), report)
    follow_splits_file(scan, report)


def _load(codec: Codec, read: Read, report: Report, scan: Scan, fitted: bool = False) -> Data:
    scan.generated = entries_for(codec, report.source)
    _see(codec, read, report, scan)
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
    report.facts |= getattr(codec, "facts", {})
    splits = {
        name: _encode(codec, items(name), scan.splits.count(name), report)
        for name in ("train", "test")
    }
    _check_enough(sum(map(len, splits.values())), report)
    _note_split(scan, splits, report)
    digest = digest_splits(codec.spec, splits)
    data = Data(codec, splits["train"], splits["test"], report, report.source, digest)
    data.files = listing(scan, report.source)
    data.options = {"group_by": scan.group_by, "synthetic": scan.synthetic}
    for name, spec in codec.conditions.items():
        if spec.kind == "token" and spec.shape == ():
            counts = class_counts(data.train, name, spec)
            data.priors[name] = [count / max(sum(counts), 1) for count in counts]
            _note_rare_classes(codec.class_names(name), counts, report)
    return data


def _encode(codec: Codec, items: Iterator[Item], count: int, report: Report) -> Split:
    """Encode in chunks into storage set aside beforehand; items that do not fit become problems."""
    spec = codec.spec
    x = torch.empty(count, *spec.shape, dtype=storage_dtype(spec))
    cond: dict[str, list[Tensor]] = {name: [] for name in codec.conditions}
    names: list[str] = []
    while chunk := list(itertools.islice(items, CHUNK)):
        usable = []
        for item in chunk:
            encoded = _encode_conditions(codec, item, report)
            if encoded is not None:
                usable.append(item)
                for name, value in encoded.items():
                    cond[name].append(value)
        if not usable:
            continue
        x[len(names) : len(names) + len(usable)] = compact(codec.encode_many(usable), spec)
        names += [item.name for item in usable]
    stacked = {
        name: torch.stack(values)
        if values
        else torch.empty(0, *codec.conditions[name].shape).long()
        for name, values in cond.items()
    }
    return Split(spec, x[: len(names)], stacked, names)


def _batches(split: Split) -> Iterator[Tensor]:
    """The items of a split in [-1, 1] or as tokens, CHUNK at a time."""
    for start in range(0, len(split), CHUNK):
        yield split.batch(torch.arange(start, min(start + CHUNK, len(split)))).x


def _encode_conditions(codec: Codec, item: Item, report: Report) -> dict[str, Tensor] | None:
    """The item's conditions, or None with a problem when one is absent or unknown."""
    encoded = {}
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


def _note_split(scan: Scan, splits: Mapping[str, Split], report: Report) -> None:
    """Say where the test split comes from, and whether there is enough to learn from."""
    num_train, num_test = len(splits["train"]), len(splits["test"])
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


def class_counts(split: Split, name: str, spec: TensorSpec) -> list[int]:
    """How many items of a split each class has."""
    counts: list[int] = torch.bincount(split.cond[name], minlength=spec.vocab_size or 1).tolist()
    return counts
