"""Stacks of items in one array, with a label for each.

Legend: N items.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from morphogen.core.codec import Problem, Report
from morphogen.core.errors import DataError
from morphogen.sources._layout import split_of
from morphogen.sources._record import Record, Shape, Wants

LABEL_WORDS = ("label", "class", "target", "y")
Shapes = Mapping[str, tuple[Shape, np.dtype[Any]]]


@dataclass(frozen=True)
class Stack:
    """One split of an array source: the items (N, ...) and their labels."""

    name: str
    split: str | None
    values: np.ndarray
    labels: Sequence[Any] | None = None


def records_of_stacks(stacks: Sequence[Stack], wants: Wants, where: str) -> Iterator[Record]:
    """The items of every stack, the training split first: codecs read scales off it."""
    for stack in sorted(stacks, key=lambda each: each.split not in (None, "train")):
        values = stacked(stack.values, wants)
        if values is None:
            raise DataError(
                f"the array does not have the shape of {wants.what}s",
                found=f"{stack.values.dtype} {stack.values.shape}",
                expected=wants.shapes or None,
                where=where,
            )
        if not len(values):
            raise DataError("the array has no items", found=f"{values.shape}", where=where)
        labels = checked(stack.labels, len(values), wants, where)
        for row in range(len(values)):
            cond = {} if labels is None or labels[row] is None else {"label": labels[row]}
            value = partial(values.__getitem__, row)
            record = Record(f"{stack.name}#{row}", "array", value, cond=cond, split=stack.split)
            record.stack = values
            yield record


def stacked(values: np.ndarray, wants: Wants) -> np.ndarray | None:
    """An array as a stack of what is wanted; a lone item becomes a stack of one."""
    takes = wants.arrays
    if takes is None:
        return None
    if takes(values.shape, values.dtype):
        return values
    return values[None] if is_lone(values.shape, values.dtype, wants) else None


def is_lone(shape: Shape, dtype: np.dtype[Any], wants: Wants) -> bool:
    """True for one item, such as a picture in colour; what has two axes is a table as well."""
    return len(shape) > 2 and wants.arrays is not None and wants.arrays((1, *shape), dtype)


def checked(labels: Any, count: int, wants: Wants, where: str) -> list[Any] | None:
    """Labels as a list, one per item; raises `DataError` when there are more or fewer."""
    if labels is None:
        return None
    labels = labels.tolist() if hasattr(labels, "tolist") else labels
    labels = list(labels) if isinstance(labels, Iterable) else [labels]
    if len(labels) != count:
        raise DataError(
            f"there are not as many labels as {wants.what}s",
            found=f"{len(labels):,} labels",
            expected=f"{count:,}, one per {wants.what}",
            where=where,
        )
    return labels


def split_in(key: str) -> str | None:
    """The split that a word of a key names: `x_train`."""
    words = re.split(r"[-_./]", key.lower())
    return next((split_of(word) for word in words if split_of(word)), None)


def item_keys(shapes: Shapes, wants: Wants) -> dict[str | None, str]:
    """Split -> the key whose array holds items; `x_train` names a split."""
    found: dict[str | None, str] = {}
    takes = wants.arrays
    for key, (shape, dtype) in shapes.items():
        if takes and not is_label_key(key) and takes(shape, dtype):
            found.setdefault(split_in(key), key)
    if not found and takes:
        for key, (shape, dtype) in shapes.items():
            if is_lone(shape, dtype, wants):
                found.setdefault(split_in(key), key)
    return found


def is_label_key(key: str) -> bool:
    """True when a word of the key means labels."""
    return any(word.rstrip("s") in LABEL_WORDS for word in re.split(r"[-_.]", key.lower()))


def label_key(shapes: Shapes, split: str | None, items: str) -> str | None:
    """The key of the labels: one named so, else the only whole-number vector of the length."""
    count = shapes[items][0][0] if shapes[items][0] else 1
    same = {
        key: (shape, dtype)
        for key, (shape, dtype) in shapes.items()
        if key != items and split_in(key) == split and shape
    }
    named = [key for key, (shape, _) in same.items() if is_label_key(key) and len(shape) <= 2]
    vectors = [
        key
        for key, (shape, dtype) in same.items()
        if shape[0] == count and dtype.kind in "uiUb" and shape[1:] in ((), (1,))
    ]
    return next(iter(named), vectors[0] if len(vectors) == 1 else None)


def plain_labels(labels: np.ndarray, key: str, where: str, report: Report) -> Any:
    """Labels of any type as one value an item: whole floats as numbers, one-hot rows as places."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    reason = ""
    if labels.ndim == 2:
        ones = (labels == 1).sum(1)
        if ((labels == 0) | (labels == 1)).all() and (ones == 1).all():
            report.facts["labels"] = f"{key}: one-hot rows of {labels.shape[1]:,} classes"
            return labels.argmax(1)
        reason = f"{key} has {labels.shape[1]:,} values an item, not one of them"
    elif labels.dtype.kind == "f":
        finite = np.isfinite(labels)
        if (np.mod(labels[finite], 1) == 0).all():
            found = np.where(finite, labels, 0).astype(np.int64).tolist()
            pairs = zip(found, finite.tolist(), strict=True)
            return [value if known else None for value, known in pairs]
        reason = f"{key} holds numbers that are no classes"
    elif labels.dtype.kind in "uiUb":
        return labels
    elif labels.dtype.kind == "S":
        return np.char.decode(labels, "utf-8", "replace")
    reason = reason or f"{key} has the type {labels.dtype}"
    fix = "save one whole number or one text an item to use them"
    report.problems.append(Problem(where, f"labels are not read: {reason}", fix))
    return None
