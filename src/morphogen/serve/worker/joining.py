"""Sounds that a model drew one by one -> one file, marked as each of them is."""

from __future__ import annotations

import base64
import io
import tempfile
import wave
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from morphogen.core.bundle import Bundle
from morphogen.core.following import TakesParts
from morphogen.core.origin import facts_of
from morphogen.core.provenance import CanWatermark
from morphogen.serve.worker.channel import Event

PAUSE = 0.2  # seconds between two sounds of one file


def join(bundle: Bundle, number: int, work: Mapping[str, Any]) -> Iterator[Event]:
    """The `sounds` that were drawn by a `seed`, as items or as a `part` of such, as one WAV."""
    sounds = [base64.b64decode(each) for each in work["sounds"]]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "whole.wav"
        file.write_bytes(joined(sounds))
        mark(bundle, file, sounds, work["seed"], work.get("part"))
        yield {"id": number, "sound": base64.b64encode(file.read_bytes()).decode()}
    yield {"id": number, "done": {}}


def joined(sounds: Sequence[bytes]) -> bytes:
    """WAV files of one model as one, with pauses between."""
    whole = io.BytesIO()
    with wave.open(whole, "wb") as target:
        for number, sound in enumerate(sounds):
            with wave.open(io.BytesIO(sound)) as source:
                if not number:
                    target.setparams(source.getparams())
                else:
                    num_bytes = target.getnchannels() * target.getsampwidth()
                    target.writeframes(bytes(int(PAUSE * target.getframerate()) * num_bytes))
                target.writeframes(source.readframes(source.getnframes()))
    return whole.getvalue()


def mark(
    bundle: Bundle, file: Path, sounds: Sequence[bytes], seed: int, part: str | None = None
) -> None:
    """Mark a file of several sounds as each of them is: with a watermark, as theirs begin anew with
    each sound and are not found in the whole; and with a credential, in which theirs are."""
    provenance, codec = bundle.provenance, bundle.codec.innermost
    if provenance is None:
        return
    if part is not None and isinstance(codec, TakesParts):
        codec = codec.part_codecs[part].innermost
    if provenance.watermark is not None and isinstance(codec, CanWatermark):
        codec.watermark_file(file, provenance.watermark)
    if provenance.sign is None:
        return
    made_of = [file.with_name(f"{number}.wav") for number in range(1, len(sounds) + 1)]
    for place, sound in zip(made_of, sounds, strict=True):
        place.write_bytes(sound)
    name = bundle.path.name if bundle.path else ""
    task = "generate" if part is None else "fill"
    says = {"generator": f"{name}, seed {seed}", **facts_of(bundle, task, seed)}
    provenance.sign([file], says, made_of)
