"""Files of sound: opened, resampled and written with libsndfile and the SoX resampler.

Legend: C channels, N samples.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from morphogen.core.codec import Problem
from morphogen.core.errors import DataError
from morphogen.core.extras import extra
from morphogen.core.storage import write_atomic
from morphogen.sources import Wants

SOUNDS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"})
CONVERT = dict.fromkeys(
    (".m4a", ".aac", ".wma", ".amr", ".ape", ".mka"), "convert it: ffmpeg -i FILE FILE.flac"
)
LONGEST = 6 * 3600  # seconds of a file: beyond, a small file can be made to fill the memory
UNTOLD = (0, 0xFFFFFFFF)  # bytes of a WAV's samples, as a program says that does not know yet
SILENT = 1e-4  # the largest sample of a sound that cannot be heard
FULL = 0.999  # of full scale: three such samples in a row were cut off
CLIPPED = 1e-3  # share of such samples that is told
PAUSE = 0.5  # seconds between sounds that are written into one file


@dataclass(frozen=True, eq=False)
class Waveform:
    """A sound as it was recorded: samples (C, N) of float32 in [-1, 1], so many a second."""

    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.samples.shape[1] / self.rate

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return self.samples.nbytes

    def tobytes(self) -> bytes:
        """What tells it from other sounds."""
        return f"{self.rate} {self.samples.shape} ".encode() + self.samples.tobytes()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Waveform) or self.rate != other.rate:
            return False
        return np.array_equal(self.samples, other.samples)

    def __hash__(self) -> int:
        return hash(self.tobytes())

    def __str__(self) -> str:
        channels = {1: "mono", 2: "stereo"}.get(len(self.samples), f"{len(self.samples)} channels")
        return f"{self.seconds:.2f} s, {self.rate / 1000:g} kHz, {channels}"


def sniff(head: bytes) -> bool:
    """Whether bytes begin as a file of sound does that can be read."""
    if head[:4] in (b"RIFF", b"RF64"):
        return head[8:12] == b"WAVE"
    if head[:4] == b"FORM":
        return head[8:12] in (b"AIFF", b"AIFC")
    return head.startswith((b"fLaC", b"OggS", b".snd", b"ID3"))


WANTS = Wants("sound", suffixes=SOUNDS, sniff=sniff, convert=CONVERT)


def opened(content: bytes) -> Waveform:
    """The sound in a file. Raises `DataError` for one that is empty, cut short, or none."""
    if not content:
        raise DataError("the file is empty", hint="remove it, or copy it again")
    library = extra("soundfile", "sound", "sounds are read")
    try:
        with library.SoundFile(io.BytesIO(content)) as file:
            if file.frames > LONGEST * file.samplerate:
                raise DataError(
                    f"the sound is longer than {LONGEST // 3600} hours", hint="cut it into pieces"
                )
            frames, rate = file.frames, file.samplerate
            samples = file.read(dtype="float32", always_2d=True).T  # (C, N)
    except library.LibsndfileError as error:
        raise DataError(
            f"it is no sound that can be read: {error.error_string.strip().rstrip('.')}",
            hint="open it in a player; ffmpeg -i FILE FILE.flac converts what that can play",
        ) from error
    # An end that is not there: libsndfile gives what is, and says nothing.
    known = max(frames, _told_by_wav(content, frames))
    if samples.shape[1] < known or _is_cut_ogg(content):
        whole = f" of {known / rate:.2f}" if samples.shape[1] < known else ""
        raise DataError(
            f"the file is cut short: {samples.shape[1] / rate:.2f}{whole} seconds are there",
            hint="copy it again; or, for what is there: ffmpeg -i FILE FILE.flac",
        )
    if not samples.size:
        raise DataError("there is no sample in it", hint="remove it")
    if not np.isfinite(samples).all():
        raise DataError("some samples are not finite", hint="export it again, as 16-bit WAV")
    return Waveform(np.ascontiguousarray(samples), rate)


def oddities(sound: Waveform, name: str) -> list[Problem]:
    """What is wrong with a sound that can be read: it is silent, or cut off at full scale."""
    height = np.abs(sound.samples)
    if height.max() < SILENT:
        return [Problem(name, "the sound is silent from beginning to end", "remove it")]
    full = height >= FULL
    share = float((full[:, 2:] & full[:, 1:-1] & full[:, :-2]).mean()) if full.shape[1] > 2 else 0.0
    if share < CLIPPED:
        return []
    reason = f"the sound is clipped: {share:.1%} of its samples are cut off at full scale"
    return [Problem(name, reason, "record it at a lower level, or leave it")]


def _told_by_wav(content: bytes, frames: int) -> int:
    """How many samples a WAV file says that it has; `frames` of any other file."""
    if content[:4] != b"RIFF":
        return frames
    place, width = 12, 0
    while place + 8 <= len(content):
        name, size = (
            content[place : place + 4],
            int.from_bytes(content[place + 4 : place + 8], "little"),
        )
        if name == b"fmt ":
            width = int.from_bytes(content[place + 20 : place + 22], "little")
        if name == b"data":
            there = len(content) - place - 8
            is_cut = size > there and size not in UNTOLD and width
            return size // width if is_cut else frames
        place += 8 + size + size % 2
    return frames


def _is_cut_ogg(content: bytes) -> bool:
    """Whether the last page of an Ogg file is not marked as the last."""
    place = content.rfind(b"OggS")
    return content.startswith(b"OggS") and not content[place + 5 : place + 6] > b"\x03"


def resampled(sound: Waveform, rate: int) -> Waveform:
    """The same sound with so many samples a second, by the SoX resampler at its highest quality."""
    if sound.rate == rate:
        return sound
    library = extra("soxr", "sound", "sounds are resampled")
    samples = library.resample(sound.samples.T, sound.rate, rate, quality="VHQ").T
    return Waveform(np.ascontiguousarray(samples, np.float32), rate)


def mixed(sound: Waveform, channels: int) -> Waveform:
    """With one channel, the mean of all, or two; one is heard on both sides."""
    if len(sound.samples) == channels:
        return sound
    mono = sound.samples.mean(0, keepdims=True)
    stereo = sound.samples[:2] if len(sound.samples) > 1 else mono
    return Waveform(
        mono if channels == 1 else np.broadcast_to(stereo, (2, stereo.shape[1])), sound.rate
    )


def as_wav(sound: Waveform) -> bytes:
    """A WAV file of 16 bits."""
    stream = io.BytesIO()
    _write_wav(sound, stream)
    return stream.getvalue()


def _write_wav(sound: Waveform, place: Any) -> None:
    library = extra("soundfile", "sound", "sounds are written")
    library.write(place, sound.samples.T.clip(-1, 1), sound.rate, "PCM_16", format="WAV")


def write_sounds(sounds: Sequence[Waveform], path: Path) -> Path:
    """One file, in the format that its suffix says: sounds one after another, with pauses; or, in
    a folder, a WAV file of each."""
    if not path.suffix:
        for number, sound in enumerate(sounds):
            write_atomic(path / f"{number:05d}.wav", partial(_write_wav, sound))
        return path
    library: Any = extra("soundfile", "sound", "sounds are written")
    kind = {".oga": "OGG", ".opus": "OGG", ".aif": "AIFF"}.get(path.suffix.lower())
    kind = kind or path.suffix[1:].upper()
    if kind not in library.available_formats():
        raise DataError(
            "sounds are not written in this format", found=path.suffix,
            expected=", ".join(sorted(SOUNDS)), hint=f"--out {path.with_suffix('.wav')}",
        )  # fmt: skip
    rate = sounds[0].rate
    pause = np.zeros((len(sounds[0].samples), int(PAUSE * rate)), np.float32)
    pieces = [piece for sound in sounds for piece in (pause, sound.samples)][1:]
    joined = np.concatenate(pieces, axis=1).T.clip(-1, 1)
    return write_atomic(path, lambda file: library.write(file, joined, rate, format=kind))
