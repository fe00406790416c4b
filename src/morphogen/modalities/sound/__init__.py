"""Sounds: WAV, FLAC, Ogg, MP3 and AIFF, of any rate, mono or stereo, in three views.

    mel     how loud each band of pitch is over time, (C, B, T): see `mel.py`. Learned by what
            learns pictures; decoded with phases that fit (Griffin & Lim 1984; Perraudin et al.
            2013)
    codes   samples as tokens, mu-law, (C N,), which end where the sound does: see `codes.py`
    wave    the samples in [-1, 1], (C, N): shorter sounds end in silence

A file of any rate and number of channels is resampled and mixed to those of the data. Models that
hear sounds of any length (`CanTranscribe`) are given `waveform`, which neither cuts nor pads.

Legend: C channels, N samples, B bands, T frames.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.errors import DataError
from morphogen.core.spec import TensorSpec
from morphogen.modalities.sound import codes, page
from morphogen.modalities.sound import watermark as tones
from morphogen.modalities.sound.files import (
    SOUNDS,
    WANTS,
    Waveform,
    mixed,
    oddities,
    opened,
    resampled,
    write_sounds,
)
from morphogen.modalities.sound.mel import LogMel, usual_bands
from morphogen.provenance.said import said_by
from morphogen.sources import Record, read_regular, recognise, records
from morphogen.sources import opened as opened_records

CHANNELS = {"mono": 1, "stereo": 2}
STEP = 64  # numbers of samples are multiples, so that networks can halve them
USUAL_SHARE = 0.99  # of the sounds that an item has room for, where the user names no length
MOST_SECONDS = 30.0  # of an item then
MUCH = 4  # times the median length: an item with more room is told to be mostly empty
MEASURED, MEASURED_SECONDS = 500, 4.0  # sounds whose bands are measured, and how much of each
MEL, CODES, WAVE = "mel", "codes", "wave"


class Sound(Codec):
    """Sounds from WAV, FLAC, Ogg, MP3 and AIFF files, wherever these lie."""

    suffix: ClassVar[str] = ".wav"
    raw: ClassVar[tuple[type, str]] = (Waveform, "sounds")
    defining: ClassVar[tuple[str, ...]] = ("rate", "channels", "seconds")
    views: ClassVar[tuple[str, ...]] = (MEL, CODES, WAVE)

    def __init__(
        self,
        *,
        rate: int | None = None,  # samples a second; none: as most of the data has
        channels: Literal["auto", "mono", "stereo"] = "auto",  # auto: as most of the data has
        seconds: float | None = None,  # of an item; none: what 99 of 100 fit in, up to 30
        bands: int | None = None,  # of pitch, in the view mel; none: 32 at 8 kHz, 64 from 16 kHz on
        hop: float = 20.0,  # milliseconds between its frames
    ) -> None:
        for name, value, low, high in (
            ("rate", rate, 1, 384_000), ("seconds", seconds, 1e-6, 3600),
            ("bands", bands, 4, 512), ("hop", hop, 0.1, 1000),
        ):  # fmt: skip
            if value is not None and not low <= value <= high:
                raise DataError(
                    f"{name} does not fit", found=value, expected=f"{low:g} to {high:g}",
                    hint=f"--set modality.{name}=N",
                )  # fmt: skip
        self.rate, self.channels, self.seconds = rate, channels, seconds
        self.bands, self.hop, self.view = bands, hop, MEL
        self.num_channels, self.num_samples = CHANNELS.get(channels, 1), 0  # of an item
        self.facts: dict[str, Any] = {}  # what fit chose, and how many sounds that changes

    # -- reading ---------------------------------------------------------------------------------

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        return recognise(source, WANTS)

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        for item in opened_records(records(source, WANTS, report), _open, report):
            item.tags = {**report.marks.pop(item.name, {}), **item.tags}
            report.num_read += 1
            yield item

    def parse(self, text: str) -> Any:
        """A sound by the name of its file."""
        return self.read_inputs(text)[0].value

    # -- fitting ---------------------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> Sound:
        heard = _Heard()
        for item in items:
            heard.note(item.value)
        if not heard.lengths:
            raise DataError("there are no sounds to learn from", expected="at least one")
        self.rate = self.rate or heard.rates.most_common(1)[0][0]
        self.num_channels = CHANNELS.get(self.channels) or heard.channels.most_common(1)[0][0]
        usual = float(np.quantile(heard.lengths, USUAL_SHARE, method="higher"))
        seconds = self.seconds or min(usual, MOST_SECONDS)
        self.num_samples = max(round(seconds * self.rate / STEP), 1) * STEP
        self.bands = self.bands or usual_bands(self.rate)
        self.mel = LogMel(self.rate, self.bands, self.hop).fit(map(self.waveform, heard.some))
        self.facts = {}
        total, rate = len(heard.lengths), self.rate
        if others := total - heard.rates[rate]:
            self.facts["resampled"] = f"{others:,} of {total:,} sounds become {rate:,} Hz"
        if others := total - heard.channels[self.num_channels]:
            kind = next(name for name, num in CHANNELS.items() if num == self.num_channels)
            self.facts["mixed"] = f"{others:,} of {total:,} sounds become {kind}"
        most = self.num_samples + STEP
        if cut := sum(length * rate > most for length in heard.lengths):
            told = f"longer than {self.num_samples / rate:.2f} s, and are cut"
            self.facts["cut"] = f"{cut:,} of {total:,} sounds are {told} (modality.seconds=N)"
        half, room = float(np.median(heard.lengths)), self.num_samples / rate
        if self.seconds is None and room > MUCH * half:
            told = (
                f"items have room for {room:.2f} s, and half of the sounds take {half:.2f} or less"
            )
            self.facts["mostly_empty"] = f"{told}: modality.seconds=N cuts the longest"
        return self.use_view(self.view)

    def use_view(self, name: str) -> Sound:
        super().use_view(name)
        if not self.num_samples:
            return self
        count = self.num_channels
        if name == MEL:
            assert self.bands is not None
            self.spec = TensorSpec("real", (count, self.bands, self.mel.room(self.num_samples)))
        elif name == CODES:
            # One token more, so that the longest end too.
            num = count * self.num_samples + 1
            self.spec = TensorSpec.tokens(num, codes.END + 1, end=codes.END)
        else:
            self.spec = TensorSpec("real", (count, self.num_samples), layout="sequence")
        return self

    # -- encoding --------------------------------------------------------------------------------

    def encode(self, item: Item) -> Tensor:
        shape = self._fitted().shape
        samples = self.waveform(item.value)[:, : self.num_samples]
        if self.view == MEL:
            return self.mel.encode(samples, shape[-1])
        if self.view == CODES:
            x = torch.full(shape, codes.END)
            told = codes.to_codes(samples)
            x[: len(told)] = told
            return x
        x = torch.zeros(shape)
        x[:, : samples.shape[1]] = samples
        return x

    def check_asked(self, value: Any) -> None:
        """Raise `DataError` for what is no sound, or one of which less than half would be heard;
        warn where its end would not be."""
        self._fitted()
        rate = self.rate or 1
        length, most = self.waveform(value).shape[1], self.num_samples
        if length > 2 * most:
            raise DataError(
                "the sound is longer than what the model has learned to hear at once",
                found=f"{length / rate:.2f} s",
                expected=f"{most / rate:.2f} s at most",
                hint="cut it, and give the parts one by one",
            )
        if length > most + STEP:
            heard = f"what follows the first {most / rate:.2f} s is not heard"
            warnings.warn(f"the sound is {length / rate:.2f} s long: {heard}", stacklevel=2)

    def waveform(self, value: Any) -> Tensor:
        """A raw sound at the codec's rate, with its channels: (C, N) in [-1, 1], N as it is."""
        if not isinstance(value, Waveform):
            raise DataError(
                "not a sound", found=type(value).__name__, expected="a file of sound, or a Waveform"
            )
        found = mixed(value, self.num_channels)
        samples = resampled(found, self.rate or value.rate).samples
        return torch.from_numpy(np.array(samples)).clamp(-1, 1)

    def decode(self, x: Tensor) -> Waveform:
        self._fitted().check(x[None], "sound")
        x = x.detach().cpu()
        if self.view == MEL:
            samples = self.mel.decode(x.float())
        elif self.view == CODES:
            samples = codes.from_codes(x, self.num_channels)
        else:
            samples = x.float()
        return Waveform(samples.clamp(-1, 1).numpy(), self.rate or 1)

    # -- for people ------------------------------------------------------------------------------

    def html(self, values: Sequence[Any], columns: int | None = None) -> str:
        """A player for each, and a picture."""
        return page.pictures(values, columns)

    def write(self, values: Sequence[Any], path: Path, columns: int | None = None) -> Path:
        if path.suffix.lower() in (".html", ".htm"):
            return super().write(values, path, columns)
        return write_sounds(values, path)

    def watermarked(self, value: Any, key: bytes) -> Waveform:
        """The sound with keyed tones in it; see `watermark.py`."""
        return tones.watermarked(value, key)

    def watermark_file(self, path: Path, key: bytes) -> None:
        """The same for a file, such as one of several sounds."""
        if path.suffix.lower() in SOUNDS:
            (item,) = self.read_inputs(path)
            write_sounds([tones.watermarked(item.value, key)], path)

    def watermark_chance(self, path: Path, key: bytes) -> float:
        """How probable it is that a file would sound so without them."""
        return tones.chance_of(opened(read_regular(path)), key)

    # -- state -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        self._fitted()
        options = {name: getattr(self, name) for name in OPTIONS}
        fitted = {"num_channels": self.num_channels, "num_samples": self.num_samples}
        bands = self.mel.state() if hasattr(self, "mel") else None
        return {"options": options, "view": self.view, "mel": bands, **fitted}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Sound:
        codec = cls(**state["options"])
        codec.num_channels, codec.num_samples = state["num_channels"], state["num_samples"]
        if state["mel"] is not None:
            codec.mel = LogMel(codec.rate or 1, codec.bands or 1, codec.hop).load(state["mel"])
        return codec.use_view(state["view"])

    def for_hearing(self, rate: int, seconds: float) -> Sound:
        """Made for models that hear so many seconds at once, and learn nothing here."""
        self.rate, self.num_samples = rate, round(seconds * rate)
        return self.use_view(WAVE)

    def _fitted(self) -> TensorSpec:
        if not hasattr(self, "spec"):
            raise DataError("the codec has heard no sounds yet", hint="codec.fit(items)")
        spec: TensorSpec = self.spec
        return spec


OPTIONS = ("rate", "channels", "seconds", "bands", "hop")


class _Heard:
    """What there is to know of sounds that pass by, and some of them, evenly spread."""

    def __init__(self) -> None:
        self.rates: Counter[int] = Counter()
        self.channels: Counter[int] = Counter()
        self.lengths: list[float] = []
        self.some: list[Waveform] = []
        self.every = 1  # each of so many is kept

    def note(self, sound: Waveform) -> None:
        """Take one."""
        self.rates[sound.rate] += 1
        self.channels[min(len(sound.samples), 2)] += 1
        if len(self.lengths) % self.every == 0:
            beginning = sound.samples[:2, : int(MEASURED_SECONDS * sound.rate)]
            self.some.append(Waveform(beginning.copy(), sound.rate))
        self.lengths.append(sound.seconds)
        if len(self.some) >= 2 * MEASURED:
            self.some, self.every = self.some[::2], 2 * self.every


def _open(record: Record, notes: Report) -> Waveform:
    content = record.value()
    if not isinstance(content, bytes):
        raise DataError("it is no file of sound", hint="name the folder of the files")
    if found := said_by(content):
        notes.marks[record.name] = found
    sound = opened(content)
    notes.problems += oddities(sound, record.name)
    notes.facts["rates"] = {f"{sound.rate:,} Hz": 1}
    return sound
