"""A small clean source of sounds: two classes of WAV files, a tenth of a second each."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np


def write(folder: Path) -> Path:
    """Two folders of three sounds each: low tones and high ones."""
    for name, pitch in (("low", 200), ("high", 900)):
        place = folder / "sounds" / name
        place.mkdir(parents=True)
        for i in range(3):
            time = np.arange(800) / 8000
            tone = 0.5 * np.sin(2 * np.pi * (pitch + 20 * i) * time)
            with wave.open(str(place / f"{i}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                file.writeframes((tone * 32767).astype("<i2").tobytes())
    return folder / "sounds"
