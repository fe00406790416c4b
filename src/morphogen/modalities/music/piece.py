"""A piece of music on a grid: which notes sound at each step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from morphogen.core.errors import DataError

LOWEST, HIGHEST = 21, 108  # MIDI pitches of a piano's keys
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


@dataclass(frozen=True)
class Piece:
    """Steps, each the MIDI pitches that sound in it, ascending; `per_beat` are a quarter note.

    Raises `DataError` for a pitch that no piano has.
    """

    steps: tuple[tuple[int, ...], ...]
    per_beat: float = 1.0
    tempo: float = 90.0  # quarter notes a minute

    def __post_init__(self) -> None:
        sounding = {pitch for step in self.steps for pitch in step}
        if strange := sorted(p for p in sounding if not LOWEST <= p <= HIGHEST):
            raise DataError(
                "a pitch is beyond the keys of a piano", found=strange[0],
                expected=f"{LOWEST} to {HIGHEST}", hint="transpose it by octaves",
            )  # fmt: skip

    @classmethod
    def of(cls, steps: Iterable[Iterable[int]], per_beat: float = 1.0) -> Piece:
        """Steps in any order of their notes, repeated or not."""
        return cls(tuple(tuple(sorted({int(p) for p in step})) for step in steps), per_beat)

    def transposed(self, semitones: int) -> Piece:
        """Higher or lower by so much. Raises `DataError` where it leaves the piano."""
        moved = tuple(tuple(pitch + semitones for pitch in step) for step in self.steps)
        return Piece(moved, self.per_beat, self.tempo)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.steps) / self.per_beat * 60 / self.tempo

    def notes(self) -> list[tuple[int, int, int]]:
        """(pitch, first step, steps that it lasts): a pitch in steps that follow is held."""
        found, since = [], dict[int, int]()
        for place, step in enumerate([*self.steps, ()]):
            for pitch in sorted(since.keys() - set(step)):
                first = since.pop(pitch)
                found.append((pitch, first, place - first))
            for pitch in step:
                since.setdefault(pitch, place)
        return sorted(found, key=lambda note: (note[1], note[0]))

    def tobytes(self) -> bytes:
        """What tells it from other pieces."""
        return repr((self.steps, self.per_beat)).encode()

    def __str__(self) -> str:
        sounding = sorted({pitch for step in self.steps for pitch in step})
        span = f"{name(sounding[0])} to {name(sounding[-1])}" if sounding else "silence"
        return f"{len(self.steps)} steps, {span}"


def name(pitch: int) -> str:
    """60 -> "C4"."""
    return f"{NAMES[pitch % 12]}{pitch // 12 - 1}"
