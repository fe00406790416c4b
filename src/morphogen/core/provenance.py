"""What is left in and beside what a model makes, so that others can tell where it comes from.

    watermark    in the item itself: drawn into a picture, a sound, the choice of words
    credential   in the file, or beside it: a signed statement of what made it

A bundle has a `Provenance` where somebody asked for one; its results carry it, and `Result.save`
acts on it. Whoever signs, and how, is not known here: see `morphogen.provenance`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from morphogen.core.writing import Marking

# What the IPTC calls media that a trained model made.
SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
FILES_OF_VIEWS = (".html", ".htm", ".svg")  # they show items, each with a mark of its own

# The files, what is to be said of them, and the files that they were made from.
Sign = Callable[[Sequence[Path], Mapping[str, str], Sequence[Path]], None]


@dataclass(frozen=True)
class Provenance:
    """How what a model makes is signed and marked."""

    sign: Sign | None = None  # none: files get no credential
    watermark: bytes | None = None  # the key of the marks; none: items get no mark
    marking: Marking | None = None  # of texts, which are marked while they are drawn
    generation: str = ""  # by which the records know it


@runtime_checkable
class CanWatermark(Protocol):
    """Optional for a codec: its items can hold a mark that is not seen, and that a key finds."""

    def watermarked(self, value: Any, key: bytes) -> Any:
        """A raw value, marked."""
        ...

    def watermark_file(self, path: Path, key: bytes) -> None:
        """Mark a file that `write` made, as a whole."""
        ...

    def watermark_chance(self, path: Path, key: bytes) -> float:
        """How probable it is that a file of one item, as large as it is, would look as marked as
        this without a mark."""
        ...


def files_of(path: Path, numbers: Sequence[int]) -> list[Path]:
    """The file that was written, or those of a folder of numbered files that hold the items
    `numbers`."""
    if not path.is_dir():
        return [path] if numbers else []
    chosen = set(numbers)
    return sorted(p for p in path.iterdir() if p.stem.isdecimal() and int(p.stem) in chosen)
