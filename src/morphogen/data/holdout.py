"""Which items are held out, where the source does not say: chosen by content."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import torch
from torch import Tensor

from morphogen.core.errors import DataError
from morphogen.data.names import Digests, Repeated, firsts
from morphogen.sources import Coded, RecordBatch

HELD_OUT = 0.1  # the part of the items that becomes the test split, where the source has none
FEWEST_TO_SPLIT = 5  # with fewer items, all are for training
# Arrays of the types of pictures are hashed without their type, which their size tells: so that the
# hashes, and with them the splits, of pictures stay what they are.
PICTURES = frozenset(map(np.dtype, ("uint8", "uint16", "float32", "float64")))
WORD, FORM_OF_TEXT = 40, b"str  "  # characters of a word; what texts are hashed with
# What prints as what it is.
PRINTED = (str, bool, int, float, complex, Decimal, UUID, date, time, timedelta)


def digest_of(value: Any) -> bytes:
    """16 bytes that depend on a raw item's content alone, not on its name or place.

    Goes into dicts, lists and tuples; tensors hash as arrays do. Raises `DataError` for what has no
    content that can be hashed: what it looks like in print is not what it is.
    """
    if type(value) is str and len(value) <= WORD:
        return _digest_of_word(value)
    if type(value) is int or (type(value) is float and value):  # 0.0 and -0.0 print unlike
        return _digest_of_number(value)
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
        value = value.contiguous().numpy()
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        value = [list(value.shape), value.ravel().tolist()]
    form = f"{type(value).__name__} {getattr(value, 'mode', '')} {getattr(value, 'shape', '')}"
    form += str(value.size) if hasattr(value, "mode") else ""
    if isinstance(value, Mapping):
        entries = sorted(digest_of(key) + digest_of(each) for key, each in value.items())
        form, content = "dict", b"".join(entries)
    elif isinstance(value, (list, tuple)):
        form, content = "list", b"".join(map(digest_of, value))
    elif isinstance(value, np.ndarray):
        form += "" if value.dtype in PICTURES else f" {value.dtype.str}"
        content = value.tobytes()
    elif hasattr(value, "tobytes"):
        content = value.tobytes()
    elif isinstance(value, (bytes, bytearray)):
        form, content = "bytes", bytes(value)
    elif value is None or isinstance(value, PRINTED):
        content = str(value).encode("utf-8", "surrogatepass")
    else:
        raise DataError(
            "an item of this kind cannot be told from others by its content",
            found=type(value).__name__,
            expected="text, numbers, bytes, pictures, arrays, and lists and dicts of such",
            hint="give it as one of these",
        )
    return hashlib.blake2b(content, digest_size=16, key=form.encode()[:64]).digest()


def digests_of(batch: RecordBatch) -> bytes:
    """`digest_of` each item of a batch, one behind the other: of a cell that comes again the hash
    is taken once."""
    columns, num = batch.cells, len(batch)
    if batch.row is None:
        own = np.frombuffer(b"".join(map(digest_of, batch.cell.values)), np.uint8).reshape(-1, 16)
        return own[batch.cell.codes].tobytes()
    entries = np.empty((num, len(columns), 32), np.uint8)  # of each cell: its column's, and its own
    names = sorted((digest_of(name), name) for name in columns)
    for place, (digest, name) in enumerate(names):
        values, codes = columns[name]
        own = np.frombuffer(b"".join(map(digest_of, values)), np.uint8).reshape(-1, 16)
        entries[:, place, :16] = np.frombuffer(digest, np.uint8)
        entries[:, place, 16:] = own[codes]
    content, width = memoryview(entries.tobytes()), 32 * len(columns)
    return b"".join(
        hashlib.blake2b(content[at : at + width], digest_size=16, key=b"dict").digest()
        for at in range(0, num * width, width)
    )


@functools.lru_cache(maxsize=1 << 14, typed=True)  # 1 and 1.0 are two
def _digest_of_number(value: float) -> bytes:
    """That of a number in a cell, of which many come again."""
    form = f"{type(value).__name__}  ".encode()
    return hashlib.blake2b(str(value).encode(), digest_size=16, key=form).digest()


@functools.lru_cache(maxsize=512)
def _digest_of_word(text: str) -> bytes:
    """That of a name or a label, of which most come again and again."""
    content = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=16, key=FORM_OF_TEXT).digest()


def assign(
    own: Sequence[str | None],
    digests: Sequence[bytes] | np.ndarray,
    labels: Sequence[Any],
    groups: Sequence[int] | None = None,
) -> Repeated:
    """Which split each item belongs to: the source's own, or a held-out tenth.

    The tenth is chosen by hashing content: it stays the same when items are added, moved or
    renamed. Items of one of the `groups`, by default the copies of one item, never stand on both
    sides: a group goes where one of its members, chosen by content too, would go alone, but for one
    that is more than a tenth by itself, which is learned. `digests`
    are of 16 bytes each, or the halves of these as whole numbers (N, 2).
    """
    own = own if isinstance(own, Repeated) else Repeated.of(own)
    if "test" in own or "validation" in own:
        held = "test" if "test" in own else "validation"
        return _sides(own.codes == own.code_of(held))
    if len(own) < FEWEST_TO_SPLIT:
        return Repeated.of("train" for _ in own)
    words = digests if isinstance(digests, np.ndarray) else Digests.of(digests).words
    keys = firsts(words) if groups is None else np.asarray(groups)
    _, group = np.unique(keys, return_inverse=True)  # (N,), of G groups
    # The lower half of a digest chooses the member, the upper half its place: they are independent.
    order = np.lexsort((words[:, 1], group))
    chosen = order[np.flatnonzero(np.diff(group[order], prepend=-1))]
    place = words[chosen, 0] / 2.0**64  # (G,)
    sizes, count = np.bincount(group), len(group)
    # A row that comes a thousand times, or one person of three, would be most of what is held out.
    held_out = (place < HELD_OUT) & (sizes <= max(1, HELD_OUT * count))
    if not 0 < sizes[held_out].sum() <= count / 2:
        small = np.flatnonzero(sizes * 2 <= count)
        held_out[:] = False
        held_out[small[place[small].argmin()] if len(small) else []] = True
    label = labels if isinstance(labels, Repeated) else Repeated.of(labels)
    in_train = np.zeros(len(label.kinds), bool)
    in_train[label.codes[~held_out[group]]] = True
    # A class that would have no training item keeps all of its items in the training split.
    held_out[group[~in_train[label.codes]]] = False
    return _sides(held_out[group])


def _sides(is_test: np.ndarray) -> Repeated:
    """The split of each item (N,)."""
    sides = Repeated()
    sides.extend(Coded(["train", "test"], is_test.astype(np.int32)).take(np.arange(len(is_test))))
    return sides
