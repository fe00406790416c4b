"""Which items are held out, where the source does not say: chosen by content."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import torch
from torch import Tensor

from morphogen.core.errors import DataError

HELD_OUT = 0.1  # the part of the items that becomes the test split, where the source has none
FEWEST_TO_SPLIT = 5  # with fewer items, all are for training
# Arrays of the types of pictures are hashed without their type, which their size tells: so that the
# hashes, and with them the splits, of pictures stay what they are.
PICTURES = {"uint8", "uint16", "float32", "float64"}
# What prints as what it is.
PRINTED = (str, bool, int, float, complex, Decimal, UUID, date, time, timedelta)


def digest_of(value: Any) -> bytes:
    """16 bytes that depend on a raw item's content alone, not on its name or place.

    Goes into dicts, lists and tuples; tensors hash as arrays do. Raises `DataError` for what has no
    content that can be hashed: what it looks like in print is not what it is.
    """
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
        form += "" if value.dtype.name in PICTURES else f" {value.dtype.str}"
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


def assign(
    own: Sequence[str | None],
    digests: Sequence[bytes],
    labels: Sequence[Any],
    groups: Sequence[int] | None = None,
) -> list[str]:
    """Which split each item belongs to: the source's own, or a held-out tenth.

    The tenth is chosen by hashing content: it stays the same when items are added, moved or
    renamed. Items of one of the `groups`, by default the copies of one item, never stand on both
    sides: a group goes where one of its members, chosen by content too, would go alone.
    """
    if "test" in own or "validation" in own:
        held = "test" if "test" in own else "validation"
        return ["test" if split == held else "train" for split in own]
    if len(own) < FEWEST_TO_SPLIT:
        return ["train"] * len(own)
    keys: Sequence[Any] = digests if groups is None else groups
    # The upper half of a digest chooses the member, the lower half its place: they are independent.
    chosen: dict[Any, bytes] = {}
    for key, digest in zip(keys, digests, strict=True):
        chosen[key] = min(chosen.get(key, digest), digest, key=lambda each: each[8:])
    place = {key: int.from_bytes(digest[:8]) / 2**64 for key, digest in chosen.items()}
    held_out = {key for key in place if place[key] < HELD_OUT}
    count = sum(key in held_out for key in keys)
    if not count or count * 2 > len(keys):
        sizes = Counter(keys)
        small = [key for key in place if sizes[key] * 2 <= len(keys)]
        held_out = {min(small, key=place.__getitem__)} if small else set()
    in_train = {label for label, key in zip(labels, keys, strict=True) if key not in held_out}
    # A class that would have no training item keeps all of its items in the training split.
    held_out -= {key for label, key in zip(labels, keys, strict=True) if label not in in_train}
    return ["test" if key in held_out else "train" for key in keys]
