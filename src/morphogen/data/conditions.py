"""What is said of the items: which of it is learned, and by which codec it is read.

A condition is an item of another codec: a class is read by `category`, a number by `value`, a
caption by `text`, a picture by `image`. Unless a user names others, the labels are learned, where
there are two or more on at least half of the items, and what items of a kind always come with, as
windows of a series with their past. A name is looked for among what the source says
of an item (its label, its caption), then among its tags (the other columns of a table); the name of
a modality means the file that belongs to the item (see `data.halves`). What nobody says and the
codec can make of the items themselves, as edges of pictures, is made. An item of which it is not
said is kept, and learned as one of which nothing is known. With `NAME=BUNDLE` a trained model reads
the condition, frozen (see `wrappers.encoder_codec`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.capability import HasMapFeatures, missing
from morphogen.core.codec import Codec, Item, Problem, Recognition, Report
from morphogen.core.conditioning import absent, present
from morphogen.core.encoded import Encoded, rows, stacked
from morphogen.core.errors import DataError, MorphogenError, did_you_mean
from morphogen.core.spec import TensorSpec
from morphogen.data.halves import opened, opened_items, recognised, said_of
from morphogen.data.modality import build_codec
from morphogen.data.noting import (
    EVERY,
    ITSELF,
    LABEL,
    MOST_LOOKED_AT,
    NOTHING,
    Made,
    comes_with,
    derived,
    derives,
    is_said,
    names_in,
)
from morphogen.data.store import Store
from morphogen.sources import (
    EncodesBatches,
    Half,
    RecordBatch,
)

QUANTILES = 20  # of a number that a bundle keeps, to draw from where none is given


@runtime_checkable
class ReadsAlike(Protocol):
    """Optional for a codec: a condition of its kind is read in its way."""

    def for_conditions(self) -> dict[str, Any]:
        """Options for the codec of such a condition."""


# -- choosing and fitting --------------------------------------------------------------------------


def fit_conditions(
    codec: Codec, said: Sequence[Mapping[str, Any]], report: Report, wanted: str | None = None
) -> None:
    """Choose and fit the codecs of the conditions from what is `said` of the training items.

    `wanted` names them, with commas between; None is the labels, where there are any to learn.
    Raises `DataError` for a name of which nothing is said.
    """
    codec.condition_codecs.clear()
    if wanted is None:
        _fit_labels(codec, said, report)
        for name in comes_with(codec):
            values = [each[name] for each in said if is_said(each.get(name))]
            if values and name not in codec.condition_codecs:
                codec.condition_codecs[name] = _reader_of(name, values, report, codec)
                _note_absent(name, len(values), len(said), report)
        return
    known = Counter(name for each in said for name, value in each.items() if is_said(value))
    names = names_in(wanted)
    if list(names) == [NOTHING]:
        return
    if list(names) == [EVERY]:
        names = dict.fromkeys(known)
    for name, encoder in names.items():
        values = [value for each in said if is_said(value := said_of(name, each))]
        if values and all(isinstance(value, Made) for value in values):
            codec.condition_codecs[name] = _made_reader(name, encoder, values, report, codec)
            continue
        values = [value for value in values if not isinstance(value, Made)]
        if not values:
            raise DataError(
                f"nothing called {name!r} is said of the items.{did_you_mean(name, known)}",
                found=f"{name} is absent, or empty, for all of {len(said):,} items",
                expected=", ".join(sorted(known)) or "items with labels, captions or other columns",
                where=report.source,
                hint="--condition none",
            )
        if encoder is None:
            codec.condition_codecs[name] = _reader_of(name, values, report, codec)
        else:
            codec.condition_codecs[name] = _frozen(name, encoder, values, report)
        _note_absent(name, len(values), len(said), report)
        _note_alike(name, values, report)


def _made_reader(
    name: str, encoder: str | None, values: Sequence[Made], report: Report, codec: Codec
) -> Codec:
    """The codec of what is made of the items themselves."""
    made = [derived(codec, name, each.of) for each in values]
    if encoder is not None:
        return _frozen(name, encoder, made, report, places=name == ITSELF)
    if name == ITSELF:
        raise DataError(
            "what an item is by itself is no condition until a model says what it sees in it",
            found=ITSELF, where=report.source, hint=f"--condition {ITSELF}=models/eyes",
        )  # fmt: skip
    reader = _reader_of(name, made, report, codec)
    report.facts[f"{name}_is"] = f"made of each item itself: {reader.spec}"
    return reader


def _of_item(codec: Codec, name: str, item: Item) -> Any:
    """What is said of an item by one name, or made of it."""
    value = said_of(name, {**item.tags, **item.cond})
    if is_said(value) or name not in derives(codec):
        return value
    return derived(codec, name, item.value)


def _fit_labels(codec: Codec, said: Sequence[Mapping[str, Any]], report: Report) -> None:
    labels = Counter(str(each[LABEL]) for each in said if is_said(each.get(LABEL)))
    labelled = sum(labels.values())
    if len(labels) < 2 or labelled * 2 < len(said):
        if labels:
            reason = "one class only" if len(labels) == 1 else f"{labelled:,} have one"
            report.facts["labels_unused"] = f"labels are not a condition: {reason}"
        return
    codec.condition_codecs[LABEL] = build_codec("category", {}).fit(map(Item, labels))
    _note_absent(LABEL, labelled, len(said), report)


def _note_absent(name: str, num_said: int, num: int, report: Report) -> None:
    if num_said < num:
        report.facts[f"{name}_absent"] = (
            f"{num - num_said:,} of {num:,} training items have no {name}, and are learned as such"
        )


def _note_alike(name: str, values: Sequence[Any], report: Report) -> None:
    """One caption for all, or for most, tells a model nothing of an item."""
    texts = Counter(value for value in values if isinstance(value, str))
    if not texts or name == LABEL:  # of classes it is said elsewhere
        return
    most, count = texts.most_common(1)[0]
    if count == len(values) > 1:
        reason = f"all {count:,} items have the same {name}, {most[:40]!r}: it tells nothing"
        fix = "say of each item what it is, or leave it out: --condition none"
    elif count * 2 > len(values):
        reason = f"{count:,} of {len(values):,} items have the same {name}, {most[:40]!r}"
        fix = "say of each item what it is"
    else:
        return
    report.problems.append(Problem(report.source, reason, fix))


def _frozen(
    name: str, encoder: str, values: Sequence[Any], report: Report, places: bool = False
) -> Codec:
    """A trained model that reads a condition and is not trained along: place by `places`, where
    these are asked for and it sees them."""
    bundle = Bundle.open(encoder)
    by_place = places and not missing(bundle.family, HasMapFeatures)
    frozen: Any = discover.find("wrapper", "map_codec" if by_place else "encoder_codec")
    reader: Codec = frozen.of(bundle)
    codec = reader.fit(opened_items(reader, values))
    report.facts[f"{name}_is"] = f"read by {encoder}, which stays as it is: {codec.spec}"
    return codec


def _reader_of(name: str, values: Sequence[Any], report: Report, codec: Codec) -> Codec:
    """The codec that is surest that it reads `values`, fitted to them; labels are categories. If it
    is of the kind of `codec`, which reads the items, it reads in its way."""
    if name == LABEL:
        return build_codec("category", {}).fit(map(Item, map(str, values)))
    found = _recognised(values)
    if name in found:  # the user has named it
        found = {name: found[name]}
    if not found:
        raise DataError(
            f"no codec reads what is said as {name!r}",
            found=repr(values[0])[:60],
            expected=f"values for one of: {', '.join(discover.names('modality'))}",
            where=report.source,
        )
    chosen = max(found, key=lambda modality: found[modality].sure)
    is_alike = isinstance(codec, discover.find("modality", chosen))
    options = dict(getattr(discover.find("modality", chosen), "condition_options", {}))
    options |= codec.for_conditions() if is_alike and isinstance(codec, ReadsAlike) else {}
    reader = build_codec(chosen, options)
    fitted = reader.fit(opened_items(reader, values))
    if not isinstance(fitted.spec, TensorSpec):
        raise DataError(
            f"the condition {name!r} has several parts, which no model takes as a condition yet",
            found=str(fitted.spec),
            where=report.source,
        )
    report.facts[f"{name}_is"] = f"{chosen}: {found[chosen].why}"
    if cut := getattr(fitted, "facts", {}).get("cut"):
        report.problems.append(Problem(name, cut, "shorten them, or nothing"))
    return fitted


def _recognised(values: Sequence[Any]) -> dict[str, Recognition]:
    """How sure each modality is that it reads cells or files of a condition."""
    if isinstance(values[0], Half):
        return recognised([value for value in values if isinstance(value, Half)])
    found: dict[str, Recognition] = {}
    for modality in discover.names("modality"):
        told = discover.find("modality", modality).recognises_cells(values[:MOST_LOOKED_AT])
        if told is not None:
            found[modality] = told
    return found


# -- encoding --------------------------------------------------------------------------------------


def encode_said(codec: Codec, item: Item, report: Report) -> dict[str, Tensor] | None:
    """What is said of an item, encoded; None, with a problem, where it is not known from training,
    such as a class that only held-out items have, or where the item itself cannot be encoded."""
    return _said_of(codec, item, report) if _fits(codec, item, report) else None


def _said_of(codec: Codec, item: Item, report: Report) -> dict[str, Tensor] | None:
    encoded: dict[str, Tensor] = {}
    for name, spec in codec.conditions.items():
        value = _of_item(codec, name, item)
        if not is_said(value):
            encoded[name] = absent(spec)
            continue
        try:
            raw = opened(codec.condition_codecs[name], value)
            encoded[name] = codec.encode_condition(name, raw)
        except MorphogenError as error:
            reason = f"{error.message} (in the training split)"
            fix = f"add training items with this {name}"
            if isinstance(value, Half):
                reason, fix = f"its {value.name}: {error.message}", error.hint or "correct the file"
            report.problems.append(Problem(item.name, reason, fix, fatal=True))
            return None
    return encoded


def _fits(codec: Codec, item: Item, report: Report) -> bool:
    """Whether an item can be encoded; a problem where it cannot."""
    try:
        codec.check_fits(item, report)
    except MorphogenError as error:
        fix = error.hint or "correct it or leave it out"
        report.problems.append(Problem(item.name, error.message, fix, fatal=True))
        return False
    return True


def encode_all_said(
    codec: Codec, items: Sequence[Item], report: Report
) -> tuple[Sequence[Item], dict[str, Encoded]]:
    """The items that can be used, and what is said of them by name, (N, *shape) each. All at once
    where it can be, else item by item, so that a problem has a name."""
    if isinstance(items, RecordBatch):
        if isinstance(codec, EncodesBatches) and not set(derives(codec)) & set(codec.conditions):
            with suppress(MorphogenError):  # one of them does not fit: which?
                return _encode_batch(codec, items, report)
        items = list(items)
    fits = [item for item in items if _fits(codec, item, report)]
    try:
        return fits, {name: _column_of(codec, name, fits) for name in codec.conditions if fits}
    except MorphogenError:
        each = [(item, _said_of(codec, item, report)) for item in fits]
    usable = [(item, known) for item, known in each if known is not None]
    return [item for item, _ in usable], {
        name: stacked([known[name] for _, known in usable]) for name in codec.conditions if usable
    }


def _encode_batch(
    codec: Any, batch: RecordBatch, report: Report
) -> tuple[Sequence[Item], dict[str, Encoded]]:
    """The same by columns, for a codec that `EncodesBatches`: of what is said again, once."""
    known: dict[str, Encoded] = {}
    for name in codec.conditions:
        column = batch.said(name)
        kinds = _column_of(codec, name, [Item(None, cond={name: each}) for each in column.values])
        known[name] = rows(kinds, torch.from_numpy(column.codes.astype(np.int64)))
    codec.check_batch(batch, report)
    return batch, known


def _column_of(codec: Codec, name: str, items: Sequence[Item]) -> Encoded:
    """What is said of items by one name, (N, *shape)."""
    values = [_of_item(codec, name, item) for item in items]
    there = torch.tensor([is_said(value) for value in values])
    reader = codec.condition_codecs[name]
    known = [value for value in values if is_said(value)]
    if known and len(known) == len(values):
        return _each_once(reader, known)
    spec: TensorSpec = reader.spec
    column = absent(spec).expand(len(values), *spec.shape).clone()
    if known:
        found: Any = _each_once(reader, known)
        column[there] = found
    return column


def _each_once(reader: Codec, values: Sequence[Any]) -> Encoded:
    """Raw values, encoded: a file that is said of several items, as a picture of several captions
    is, is read once."""
    first: dict[Any, Any] = {}
    keys = [(isinstance(value, Half) and value.disk) or id(value) for value in values]
    for key, value in zip(keys, values, strict=True):
        first.setdefault(key, value)
    encoded = reader.encode_many([Item(opened(reader, value)) for value in first.values()])
    if len(first) == len(values):
        return encoded
    number = {key: place for place, key in enumerate(first)}
    return rows(encoded, torch.tensor([number[key] for key in keys]))


def having(store: Store, names: Iterable[str], conditions: Mapping[str, TensorSpec]) -> Store:
    """The items of a store of which all `names` are said."""
    keep = torch.ones(len(store), dtype=torch.bool)
    for name in names:
        keep &= present(store.cond[name], conditions[name])
    return store if keep.all() else store.take(keep.nonzero().flatten())


# -- what there is of it ---------------------------------------------------------------------------


def class_counts(values: Tensor, spec: TensorSpec) -> list[int]:
    """How many items (N,) have each class."""
    counts: list[int] = torch.bincount(values[values >= 0], minlength=spec.vocab_size or 1).tolist()
    return counts


def priors_of(codec: Codec, cond: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """What a bundle keeps of the conditions of the training items, to draw from: how often each
    class comes, and quantiles of numbers. Of captions and pictures it keeps nothing: they are the
    user's own."""
    priors: dict[str, list[float]] = {}
    for name, spec in codec.conditions.items():
        values = cond[name]
        if spec.is_label:
            total = max(len(values), 1)
            priors[name] = [count / total for count in class_counts(values, spec)]
        elif spec.kind == "real" and spec.shape == (1,):
            known = values[present(values, spec)].flatten()
            at = (torch.arange(QUANTILES) + 0.5) / QUANTILES
            priors[name] = known.quantile(at).tolist() if len(known) else []
    return priors


def facts_of(codec: Codec, cond: Mapping[str, Tensor]) -> dict[str, Any]:
    """Each condition for people: its classes with their counts, else what its values are like."""
    facts: dict[str, Any] = {}
    for name, spec in codec.conditions.items():
        if name not in cond:  # the data was asked for without it
            continue
        values = cond[name]
        if names := codec.class_names(name):
            facts[name] = dict(zip(names, class_counts(values, spec), strict=True))
            continue
        known = values[present(values, spec)]
        spread = codec.condition_codecs[name].spread(known) if len(known) else "none"
        facts[name] = f"{len(known):,} of {len(values):,} items: {spread}"
    return facts
