"""Sounds are read as they were recorded; files that are none, or not whole, say so."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import morphogen as mg
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item, Report
from morphogen.core.errors import DataError
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.transcript import Segment, Transcript, srt, vtt
from morphogen.modalities.sound import Sound
from morphogen.modalities.sound.files import Waveform, mixed, opened, resampled

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")

RATE = 8000


def tone(seconds: float = 0.5, rate: int = RATE, pitch: float = 220.0) -> np.ndarray:
    """(N,) a sine."""
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)).astype("f4")


def encoded(samples: np.ndarray, kind: str, subtype: str | None = None) -> bytes:
    """A file of sound, samples (N,) or (N, C)."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, subtype, format=kind)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "lost"), [("WAV", 1 / 32768), ("FLAC", 1 / 32768), ("AIFF", 1 / 32768), ("OGG", 0.05)]
)
def test_files_hold_what_was_recorded(kind: str, lost: float) -> None:
    stereo = np.stack([tone(), -0.5 * tone()], axis=1)
    found = opened(encoded(stereo, kind))
    assert (found.rate, found.samples.shape) == (RATE, stereo.T.shape)
    assert np.abs(found.samples - stereo.T).max() <= lost


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_a_file_that_is_cut_short_says_so(kind: str) -> None:
    content = encoded(tone(2.0), kind)
    with pytest.raises(DataError, match=r"cut short|no sound that can be read"):
        opened(content[: len(content) * 2 // 3])


def test_wav_of_a_program_that_did_not_know_the_length_is_whole() -> None:
    content = bytearray(encoded(tone(), "WAV"))
    place = content.index(b"data") + 4
    content[place : place + 4] = content[4:8] = b"\xff\xff\xff\xff"
    assert opened(bytes(content)).samples.shape == (1, RATE // 2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"RIFF\x04\0\0\0WAVE", "no sound that can be read"),
        (b"<!DOCTYPE html>", "no sound that can be read"),
        (encoded(np.zeros(0, "f4"), "WAV"), "no sample"),
        (encoded(np.full(9, np.nan, "f4"), "WAV", "FLOAT"), "not finite"),
    ],
)
def test_files_without_sound_say_what_they_are(content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        opened(content)


def test_bad_files_are_told_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "good.wav").write_bytes(encoded(tone(), "WAV"))
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "empty.flac").write_bytes(b"")
    report = Report(str(tmp_path))
    assert [item.name for item in Sound().read(tmp_path, report)] == ["good.wav"]
    assert {problem.name for problem in report.skipped} == {"text.wav", "empty.flac"}
    with pytest.raises(DataError, match="no sound that can be read"):
        Sound().read_inputs(tmp_path / "text.wav")


def test_resampling_keeps_what_both_rates_can_hold() -> None:
    there = resampled(Waveform(tone(1.0)[None], RATE), 16_000)
    assert there.samples.shape == (1, 16_000)
    middle = slice(2000, 14_000)
    assert there.samples[0, middle] == pytest.approx(tone(1.0, 16_000)[middle], abs=1e-3)


def test_channels_are_mixed_and_doubled() -> None:
    stereo = Waveform(np.array([[1.0, 0.0], [0.0, 0.5]], "f4"), RATE)
    assert mixed(stereo, 1).samples.tolist() == [[0.5, 0.25]]
    mono = mixed(stereo, 1)
    assert mixed(mono, 2).samples.tolist() == [[0.5, 0.25]] * 2
    assert mixed(stereo, 2) is stereo


def test_items_are_cut_or_end_in_silence() -> None:
    items = [Item(Waveform(tone(seconds)[None], RATE)) for seconds in (0.1, 0.3)]
    codec = Sound(seconds=0.2).fit(items).use_view("wave")
    short, long = codec.encode_many(items)
    assert codec.spec.shape == (1, 1600)
    assert not short[:, 800:].any()
    assert torch.equal(long[0], torch.from_numpy(tone(0.2)))
    assert "1 of 2 sounds are longer" in codec.facts["cut"]
    assert codec.waveform(items[1].value).shape == (1, 2400)


def test_sounds_go_from_files_to_a_model_and_back(tmp_path: Path) -> None:
    """The beginning of a modality: read, divided, encoded, drawn and written."""
    for number in range(8):
        (tmp_path / f"{number}.wav").write_bytes(encoded(tone(0.05, pitch=200 + number), "WAV"))
    data = mg.load(tmp_path)
    assert (type(data.codec), len(data.train) + len(data.test)) == (Sound, 8)
    recipe = Recipe(family={"name": "vae"}, backbone={"name": "mlp", "model_dim": 8})
    family = build_family(recipe, data.codec.spec, {}).eval()
    bundle = Bundle(family, data.codec, recipe)
    found = opened(bundle.sample(2).save(tmp_path / "two.wav").read_bytes())
    assert found.rate == RATE
    assert found.samples.shape[1] > RATE // 2  # the pause between them


def test_captions_have_times_as_players_read_them() -> None:
    said = Transcript((Segment(0.0, 1.5, " Good day."), Segment(3661.25, 3662.0, " Yes.")), "en")
    assert said.text == "Good day. Yes."
    assert srt(said.segments) == (
        "1\n00:00:00,000 --> 00:00:01,500\nGood day.\n\n2\n01:01:01,250 --> 01:01:02,000\nYes.\n"
    )
    assert vtt(said.segments).startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nGood day.\n")
    assert math.isclose(Waveform(tone()[None], RATE).seconds, 0.5)


def test_a_sound_that_is_asked_with_is_not_cut_in_silence() -> None:
    """One that is much longer than what was learned is refused, the end of another told."""
    clip = Waveform(np.zeros((1, 8000), np.float32), 8000)
    codec = Sound().fit([Item(clip)])
    codec.check_asked(clip)
    longer, much = (Waveform(np.zeros((1, n), np.float32), 8000) for n in (12_000, 17_000))
    with pytest.warns(UserWarning, match=r"1\.50 s long: what follows the first 1\.00 s"):
        codec.check_asked(longer)
    with pytest.raises(DataError, match=r"2\.12 s\s+expected: +1\.00 s at most"):
        codec.check_asked(much)
    with pytest.raises(DataError, match="not a sound"):
        codec.check_asked("one.wav")
