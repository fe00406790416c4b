"""What a file itself says of where it comes from, what is marked in it, and what it looks like: no
records needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morphogen.core import discover
from morphogen.core.codec import CanFingerprint, Codec, Item, Report
from morphogen.core.errors import MorphogenError
from morphogen.core.ledger import Ledger
from morphogen.core.start import codec_of
from morphogen.core.writing import TextCodec
from morphogen.data.fingerprints import Fingerprints
from morphogen.data.modality import build_codec, find_modality
from morphogen.provenance.identity import Identity

FOUND = 1e-4  # a mark counts as found where a file without one would have it so seldom


@dataclass(frozen=True)
class Watermark:
    """Whether a file bears the watermark of this installation."""

    chance: float  # how probable it is that a file without it would look as marked as this
    model: str = ""  # by whose words a text was looked at

    @property
    def is_found(self) -> bool:
        """Whether it does, as far as can be told."""
        return self.chance < FOUND

    def text(self) -> str:
        """For people."""
        by = f", by the words of {self.model}" if self.model else ""
        if self.is_found:
            return f"the watermark of this installation is in it (p = {self.chance:.1e}{by})"
        return f"no watermark of this installation was found in it (p = {self.chance:.2g}{by})"


def said_inside(path: Path) -> dict[str, str]:
    """The tags inside a file that a codec reads, such as that a model made it."""
    opened = _opened(path)
    return dict(opened[2]) if opened else {}


def marked_with(path: Path, models: Sequence[Path | str] = ()) -> Watermark | None:
    """The watermark in a file; None where none is looked for: this installation has no key, or the
    file is none that can bear one. Texts are looked at by the words of the `models`."""
    identity, opened = Identity.open(), _opened(path)
    if identity is None or opened is None or not hasattr(opened[0], "watermark_chance"):
        return None
    if not isinstance(opened[0], TextCodec):
        return Watermark(_chance(opened[0], path, identity))
    readers = {str(model): reader for model in models if (reader := _words_of(model)) is not None}
    if not readers:
        return None
    chances = {name: _chance(reader, path, identity) for name, reader in readers.items()}
    best = min(chances, key=chances.__getitem__)
    return Watermark(min(1.0, len(chances) * chances[best]), Path(best).name)


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


def _chance(codec: Any, path: Path, identity: Identity) -> float:
    return float(codec.watermark_chance(path, identity.watermark))


def _words_of(model: Path | str) -> Codec | None:
    """The codec of a bundle that writes texts."""
    try:
        codec = codec_of(model)
    except MorphogenError:
        return None
    return codec if isinstance(codec, TextCodec) and hasattr(codec, "watermark_chance") else None


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
