"""What a file itself says of where it comes from, and what it looks like: no records needed."""

from __future__ import annotations

from pathlib import Path

from morphogen.core import discover
from morphogen.core.codec import CanFingerprint, Codec, Item, Report
from morphogen.core.errors import MorphogenError
from morphogen.core.ledger import Ledger
from morphogen.data.fingerprints import Fingerprints
from morphogen.data.modality import build_codec, find_modality


def said_inside(path: Path) -> dict[str, str]:
    """The tags inside a file that a codec reads, such as that a model made it."""
    opened = _opened(path)
    return dict(opened[2]) if opened else {}


def seen_before(path: Path) -> str:
    """What the ledger of generated items says of one that looks like this file, or nothing."""
    opened = _opened(path)
    if opened is None:
        return ""
    codec, item, _ = opened
    if not isinstance(codec, CanFingerprint):
        return ""
    entries = Ledger.of(discover.name_of(type(codec))).read()
    print_ = codec.fingerprint(item)
    if print_ is None or not entries:
        return ""
    own, made = Fingerprints(codec), Fingerprints(codec)
    own.add(0, print_)
    for number, entry in enumerate(entries):
        made.add(number, entry.fingerprint)
    for _, number, _ in own.pairs_with(made, same_from=codec.same_from):
        return entries[number].about
    return ""


def _opened(path: Path) -> tuple[Codec, Item, dict[str, str]] | None:
    """The file as an item of whichever codec reads it, where exactly one item is in it, with what
    it says of itself."""
    report = Report(str(path))
    try:
        codec = build_codec(find_modality(path), {})
        items = list(codec.read(path, report))
    except (MorphogenError, OSError):
        return None
    if len(items) != 1:
        return None
    (item,) = items
    return codec, item, {**report.marks.get(item.name, {}), **item.tags}
