"""A small clean source of music: scales over a held bass, as MIDI files."""

from __future__ import annotations

from pathlib import Path

import pytest

NUM = 8


def write(folder: Path) -> Path:
    """A folder of files."""
    pytest.importorskip("mido", reason="needs morphogen[music]")
    from morphogen.modalities.music.files import as_midi
    from morphogen.modalities.music.piece import Piece

    place = folder / "scales"
    place.mkdir(parents=True)
    for start in range(60, 60 + NUM):
        steps = [[start - 12, start + i, start + i + 4] for i in range(8)]
        (place / f"{start}.mid").write_bytes(as_midi(Piece.of(steps, per_beat=4)))
    return place
