"""Where a note's words were looked for once it was forgotten.

What was sealed cannot be found by its words, but its key can; and words can be written in several
ways. So all of these are looked for, byte by byte, in every file of the memory and in every file
outside that is known to have held some of it.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morphogen.systems.memory.note import Note

BLOCK = 1 << 24  # bytes that are read at once
LEAST = 4  # characters of a stretch of words that tells something
RUN = 3  # words of a stretch


@dataclass(frozen=True)
class Proof:
    """What was forgotten, where it was looked for, and what of it is still there."""

    forgotten: tuple[str, ...]  # ids; those of summaries that stood on them among them
    looked: tuple[str, ...]  # files
    num_bytes: int
    removed: tuple[str, ...] = ()  # files outside that were rewritten or removed
    found: tuple[str, ...] = ()  # files that still hold something
    unreached: tuple[str, ...] = ()  # files outside that are no longer where they were

    @property
    def holds(self) -> bool:
        """Whether nothing is left where it was looked for, and it was looked for everywhere."""
        return not self.found and not self.unreached

    def text(self) -> str:
        """For a terminal."""
        num = len(self.forgotten)
        said = [
            f"forgotten: {num:,} note{'s' * (num != 1)}; no trace in {len(self.looked):,} files, "
            f"{self.num_bytes:,} bytes"
        ]
        if self.found:
            said = [f"forgotten, and still found in: {', '.join(self.found)}"]
        said += [f"  taken away with it: {each}" for each in self.removed]
        said += [f"  no longer where it was, look yourself: {each}" for each in self.unreached]
        return "\n".join(said)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**{name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()},
                "holds": self.holds}  # fmt: skip


def words_of(notes: Iterable[Note]) -> str:
    """What notes say, a line for each."""
    return "\n".join(_plain(each.text) for each in notes)


def marks_of(note: Note, secrets: Iterable[bytes], elsewhere: str = "") -> list[bytes]:
    """What tells of a note where it stands in bytes: runs of its words that do not stand
    `elsewhere` as well, as they are and as JSON and HTML write them; and its `secrets`, a key and a
    vector."""
    words = note.text.split()
    runs = [" ".join(words[i : i + RUN]) for i in range(max(len(words) - RUN + 1, 1))]
    own = [run for run in runs if len(run) >= LEAST and _plain(run) not in elsewhere]
    forms = {form for run in own for form in (run, json.dumps(run)[1:-1], html.escape(run))}
    written = [form.encode(code) for form in sorted(forms) for code in ("utf-8", "utf-16-le")]
    return [*written, *(each for each in secrets if any(each))]


def looked_for(marks: Sequence[bytes], files: Iterable[Path]) -> tuple[list[str], list[str], int]:
    """The files that were read, those of them that hold a mark, and how many bytes they are."""
    longest = max(map(len, marks), default=1)
    looked, found, num = [], [], 0
    for file in files:
        tail = b""
        with file.open("rb") as stream:
            while block := stream.read(BLOCK):
                num += len(block)
                data = tail + block
                if any(mark in data for mark in marks):
                    found.append(str(file))
                    break
                tail = data[-longest + 1 :] if longest > 1 else b""
        looked.append(str(file))
    return looked, found, num


def _plain(text: str) -> str:
    return " ".join(text.split())
