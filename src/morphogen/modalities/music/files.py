"""Files of music: MIDI, piano rolls as JSON, and sound that is made from notes.

A JSON file holds one piece, or several, or {"train": [...], "valid": [...], "test": [...]} of them:
a piece is a list of steps, a step a list of MIDI pitches (-1 or nothing: silence).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from morphogen.core.codec import Report
from morphogen.core.errors import DataError
from morphogen.core.extras import extra
from morphogen.core.storage import write_atomic
from morphogen.modalities.music.piece import Piece
from morphogen.sources import Wants, open_regular, split_of

MIDI = frozenset({".mid", ".midi", ".kar"})
PER_BEAT = 4  # steps of a quarter note that MIDI is read on
DRUMS = 9  # the channel whose notes are no pitches
RATE = 22_050  # samples a second of what is rendered
OVERTONES = (1.0, 0.5, 0.28, 0.14, 0.08)  # of a note, as loud
TEMPI = "tempo_changes_left_out"  # the fact that counts files in which the tempo changes
_ROLL = re.compile(rb'\s*(\{\s*"\w+"\s*:\s*)?(\[\s*){2,3}-?\d')


def sniff(head: bytes) -> bool:
    """Whether bytes begin as MIDI does."""
    return head.startswith(b"MThd")


WANTS = Wants(
    "piece of music", suffixes=MIDI, sniff=sniff, cell=lambda value: isinstance(value, Piece)
)


def rolls(source: Any) -> list[Path]:
    """JSON files that begin as lists of lists of numbers: the one that is named, or those of a
    folder where all of its JSON files do."""
    if not isinstance(source, (str, Path)):
        return []
    place = Path(source)
    if place.is_dir():
        found = sorted(place.glob("*.json"))
    else:
        found = [place] if place.suffix.lower() == ".json" and place.is_file() else []
    heads = []
    for file in found:
        with open_regular(file) as stream:
            heads.append(_ROLL.match(stream.read(4096)) is not None)
    return found if all(heads) else []


def pieces(content: bytes, notes: Report) -> Iterator[tuple[Piece, str | None]]:
    """Every piece of a file, with the split that it says. Raises `DataError` for what is none."""
    if sniff(content[:8]):
        yield opened(content, notes), None
        return
    try:
        told = json.loads(content)
    except ValueError as error:
        raise DataError("it is neither MIDI nor JSON", found=str(error)[:80]) from error
    for split, group in (told if isinstance(told, dict) else {"": told}).items():
        if _depth(group) == 2:  # one piece
            group = [group]
        if _depth(group) != 3:
            raise DataError(
                "it is no music", found=str(group)[:60],
                expected="pieces, as lists of steps, as lists of MIDI pitches",
            )  # fmt: skip
        for steps in group:
            kept = [[p for p in step if p != -1] for step in steps]
            yield Piece.of(kept), split_of(split)


def _depth(value: Any) -> int:
    """How many lists stand within one another, by the first that has something in it."""
    if not isinstance(value, list):
        return 0
    return 1 + max((_depth(each) for each in value[:64]), default=0)


def opened(content: bytes, report: Report | None = None) -> Piece:
    """MIDI on a grid of sixteenths, at the tempo that it begins with: a report is told of files in
    which that changes. Raises `DataError` for what is damaged or has no notes."""
    mido = extra("mido", "music", "MIDI is read")
    try:
        song = mido.MidiFile(file=io.BytesIO(content))
    except Exception as error:  # EOFError, OSError, ValueError, IndexError of damaged files
        raise DataError("it is no MIDI that can be read", found=str(error)[:80]) from error
    per_step = song.ticks_per_beat / PER_BEAT
    notes: list[tuple[int, float, float]] = []
    for track in song.tracks:
        now, since = 0, dict[int, int]()
        for message in track:
            now += message.time
            if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
                continue
            if message.note in since:
                notes.append((message.note, since.pop(message.note) / per_step, now / per_step))
            if message.type == "note_on" and message.velocity:
                since[message.note] = now
    if not notes:
        raise DataError("there is no note in it", hint="drums alone are no notes; remove it")
    steps: list[set[int]] = [set() for _ in range(max(round(end) for *_, end in notes) or 1)]
    for pitch, start, end in notes:
        for place in range(round(start), max(round(end), round(start) + 1)):
            if place < len(steps):
                steps[place].add(pitch)
    while steps and not steps[0]:
        steps.pop(0)
    return Piece(tuple(tuple(sorted(s)) for s in steps), PER_BEAT, 60e6 / _tempo(song, report))


def _tempo(song: Any, report: Report | None) -> int:
    """Microseconds of a quarter note, as a file begins."""
    tempo, later = 500_000, set[int]()  # unless it says another
    for track in song.tracks:
        now = 0
        for message in track:
            now += message.time
            if message.type == "set_tempo" and now == 0:
                tempo = message.tempo
            elif message.type == "set_tempo":
                later.add(message.tempo)
    if later - {tempo} and report is not None:
        report.facts[TEMPI] = report.facts.get(TEMPI, 0) + 1
    return tempo


def as_midi(piece: Piece) -> bytes:
    """A piece as a MIDI file of one track."""
    mido = extra("mido", "music", "MIDI is written")
    song, track = mido.MidiFile(ticks_per_beat=480), mido.MidiTrack()
    song.tracks.append(track)
    track.append(mido.MetaMessage("set_tempo", tempo=round(60e6 / piece.tempo), time=0))
    per_step = 480 / piece.per_beat
    events = []
    for pitch, first, num in piece.notes():
        events.append((round(first * per_step), "note_on", pitch))
        events.append((round((first + num) * per_step), "note_off", pitch))
    now = 0
    for when, kind, pitch in sorted(events):  # ends before beginnings: "note_off" < "note_on"
        track.append(mido.Message(kind, note=pitch, velocity=80, time=when - now))
        now = when
    stream = io.BytesIO()
    song.save(file=stream)
    return stream.getvalue()


def rendered(piece: Piece) -> np.ndarray:
    """(N,) samples in [-1, 1]: struck notes with overtones that die away."""
    step = 60 / piece.tempo / piece.per_beat
    total = np.zeros(round((len(piece.steps) * step + 1.0) * RATE), np.float32)
    for pitch, first, num in piece.notes():
        length = num * step + 0.3
        time = np.arange(round(length * RATE)) / RATE
        tone = 440 * 2 ** ((pitch - 69) / 12)
        wave = sum(
            loud * np.sin(2 * np.pi * tone * part * time) * np.exp(-time * (1.5 + part))
            for part, loud in enumerate(OVERTONES, 1)
            if tone * part < RATE / 2
        )
        fade = np.clip((length - time) / 0.1, 0, 1) * np.clip(time / 0.005, 0, 1)
        at = round(first * step * RATE)
        part = (wave * fade)[: len(total) - at]
        total[at : at + len(part)] += part.astype(np.float32)
    return total / max(float(np.abs(total).max(initial=0)), 1e-6) * 0.8


def write_midi(piece: Piece, path: Path) -> Path:
    """Write a MIDI file."""
    content = as_midi(piece)
    return write_atomic(path, lambda file: file.write_bytes(content))
