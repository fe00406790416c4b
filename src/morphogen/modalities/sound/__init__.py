"""Sounds: mono or stereo waveforms of one rate, as real sequences of samples.

    x = the samples in [-1, 1], (C, N): longer sounds are cut, shorter ones end in silence

A file of any rate and number of channels is resampled and mixed to those of the data. Models that
hear sounds of any length (`CanTranscribe`) are given `waveform`, which neither cuts nor pads.

Legend: C channels, N samples.
"""

from __future__ import annotations

import base64
import html
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
from morphogen.modalities.sound import watermark as tones
from morphogen.modalities.sound.files import (
    SOUNDS,
    WANTS,
    Waveform,
    as_wav,
    mixed,
    opened,
    resampled,
    write_sounds,
)
from morphogen.provenance.said import said_by
from morphogen.sources import Record, read_regular, recognise, records
from morphogen.sources import opened as opened_records

CHANNELS = {"mono": 1, "stereo": 2}
STEP = 64  # numbers of samples are multiples, so that networks can halve them
MOST_SECONDS = 30.0  # of an item, where the user names no length


class Sound(Codec):
    """Sounds from WAV, FLAC, Ogg, MP3 and AIFF files, wherever these lie."""

    suffix: ClassVar[str] = ".wav"
    unit: ClassVar[str] = "sample"
    defining: ClassVar[tuple[str, ...]] = ("rate", "channels")

    def __init__(
        self,
        *,
        rate: int | None = None,  # samples a second; none: as most of the data has
        channels: Literal["auto", "mono", "stereo"] = "auto",  # auto: as most of the data has
        seconds: float | None = None,  # of an item; none: the longest of the data, up to 30
    ) -> None:
        if rate is not None and not 1 <= rate <= 384_000:
            raise DataError("the rate does not fit", found=rate, expected="1 to 384000")
        if seconds is not None and not 0 < seconds <= 3600:
            raise DataError("the length does not fit", found=seconds, expected="up to 3600 seconds")
        self.rate, self.channels, self.seconds = rate, channels, seconds
        self.facts: dict[str, Any] = {}  # what fit chose, and how many sounds that changes

    # -- reading ---------------------------------------------------------------------------------

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        return recognise(source, WANTS)

    @classmethod
    def recognises_cells(cls, values: Sequence[Any]) -> Recognition | None:
        """Sounds that were read already."""
        sounds = bool(values) and all(isinstance(value, Waveform) for value in values)
        return Recognition(0.9, f"{len(values):,} sounds") if sounds else None

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        for item in opened_records(records(source, WANTS, report), _open, report):
            item.tags = {**report.marks.pop(item.name, {}), **item.tags}
            report.num_read += 1
            yield item

    def parse(self, text: str) -> Any:
        """A sound by the name of its file."""
        return self.read_inputs(text)[0].value

    # -- fitting and encoding ----------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> Sound:
        rates: Counter[int] = Counter()
        channels: Counter[int] = Counter()
        lengths: list[float] = []
        for item in items:
            rates[item.value.rate] += 1
            channels[min(len(item.value.samples), 2)] += 1
            lengths.append(item.value.seconds)
        if not lengths:
            raise DataError("there are no sounds to learn from", expected="at least one")
        rate = self.rate or rates.most_common(1)[0][0]
        count = CHANNELS.get(self.channels) or channels.most_common(1)[0][0]
        seconds = self.seconds or min(max(lengths), MOST_SECONDS)
        num = max(round(seconds * rate / STEP), 1) * STEP
        self.facts = {}
        if others := sum(n for other, n in rates.items() if other != rate):
            self.facts["resampled"] = f"{others:,} of {len(lengths):,} sounds become {rate:,} Hz"
        if cut := sum(length * rate > num + STEP for length in lengths):
            self.facts["cut"] = f"{cut:,} sounds are longer than {num / rate:.2f} s, and are cut"
        self.spec = TensorSpec("real", (count, num), layout="sequence")
        self.rate = rate
        return self

    def encode(self, item: Item) -> Tensor:
        sound, num = self.waveform(item.value), self._fitted().shape[1]
        x = torch.zeros(self.spec.shape)
        there = min(sound.shape[1], num)
        x[:, :there] = sound[:, :there]
        return x

    def waveform(self, value: Any) -> Tensor:
        """A raw sound at the codec's rate, with its channels: (C, N) in [-1, 1], N as it is."""
        if not isinstance(value, Waveform):
            raise DataError(
                "not a sound", found=type(value).__name__, expected="a file of sound, or a Waveform"
            )
        found = mixed(value, self._fitted().channels)
        samples = resampled(found, self.rate or value.rate).samples
        return torch.from_numpy(np.array(samples)).clamp(-1, 1)

    def decode(self, x: Tensor) -> Waveform:
        self._fitted().check(x[None], "sound")
        return Waveform(x.detach().cpu().float().clamp(-1, 1).numpy(), self.rate or 1)

    # -- for people ------------------------------------------------------------------------------

    def html(self, values: Sequence[Any], columns: int | None = None) -> str:
        """A player for each."""
        cells = []
        for value in values:
            told = base64.b64encode(as_wav(value)).decode()
            source = f"data:audio/wav;base64,{told}"
            name = html.escape(str(value))
            cells.append(f'<figure><audio controls src="{source}"></audio><br>{name}</figure>')
        style = f"display:grid;grid-template-columns:repeat({columns or 1},minmax(0,1fr))"
        return f'<div style="{style}">{"".join(cells)}</div>'

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
        options = {"rate": self.rate, "channels": self.channels, "seconds": self.seconds}
        return {"options": options, "spec": self._fitted().to_json()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Sound:
        codec = cls(**state["options"])
        codec.spec = TensorSpec.from_json(state["spec"])
        return codec

    def _fitted(self) -> TensorSpec:
        if not hasattr(self, "spec"):
            raise DataError("the codec has heard no sounds yet", hint="codec.fit(items)")
        spec: TensorSpec = self.spec
        return spec


def _open(record: Record, notes: Report) -> Waveform:
    content = record.value()
    if not isinstance(content, bytes):
        raise DataError("it is no file of sound", hint="name the folder of the files")
    if found := said_by(content):
        notes.marks[record.name] = found
    return opened(content)
